"""The judge: policy and evidence in, verdict out. Pure: the same input gives the same bytes.

Everything that is known about a criterion becomes a finding: one for each group that was
measured, and one for each thing that is missing or not to be believed. The worst finding
counts, so more evidence of trouble can only make a verdict worse.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from engine.core.flags import FLAGS
from gates.attempts import Attempt
from gates.completeness import missing, uncovered
from gates.criteria import Criterion, Measure, Outcome, worst
from gates.evidence import Measurement
from gates.findings import Finding
from gates.groups import about, grouped, treatment_flags
from gates.kinds import assess, judgeable
from gates.ledger_file import Ledger
from gates.live_evidence import LiveEvidence
from gates.planned import Session, beside, session_of
from gates.provenance import Origin, doubts, flaws
from gates.rows import (
    Judged,
    answered,
    decide,
    empty_door,
    in_order,
    objected,
    objection_row,
    row,
    transition,
)
from gates.stages import Policy, Transition
from gates.text import grouped_digits
from gates.verdict import LIFETIME, EvidenceFile, Subject, Verdict, worst_decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that a report folder holds; `problems` are the files that could not be read.

    `others` are the attempts of other runs whose measurements were given, one tuple for each;
    `earlier` are the tests of other suites that passed at the last verdict.
    """

    attempts: tuple[Attempt, ...] = ()
    others: tuple[tuple[Attempt, ...], ...] = ()
    earlier: frozenset[str] = frozenset()
    measurements: tuple[Measurement, ...] = ()
    ledgers: tuple[Ledger, ...] = ()
    files: tuple[EvidenceFile, ...] = ()
    problems: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)  #: a measurement's id to its file


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked: which flags go through which door, of which build, and when."""

    stage: str
    transitions: Mapping[str, Transition]
    now: datetime  #: UTC, aware
    subject: Subject
    dry_run: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Case:
    """All that a criterion is judged on."""

    evidence: Evidence
    request: Request
    origin: Origin
    flaws: tuple[tuple[str, ...], ...]  #: of each measurement
    live: LiveEvidence

    @property
    def session(self) -> Session:
        """The judged one."""
        return self.origin.session


def judge(policy: Policy, evidence: Evidence, request: Request) -> Verdict:
    """Decide for every flag of a request.

    Raises:
        ValueError: a time without a zone, or a flag that does not exist.
    """
    case = _case(policy, evidence, request)
    steps = in_order(request.transitions)
    required = {flag: _required(policy, step, case.session) for flag, step in steps.items()}
    listed = {name for names in required.values() for name in names}
    judged = {c.id: _judged(policy, c, case) for c in policy.criteria.values() if c.id in listed}
    objections = case.session.objections
    flags = {
        flag: objected(flag, decide(flag, (judged[name] for name in names)), objections)
        for flag, names in required.items()
    }
    moving = any(step.origin != step.target for step in steps.values())  # to stay needs no session
    doors = dict.fromkeys(steps[flag] for flag, names in required.items() if not names)
    return Verdict(
        verdict=worst_decision(flags.values()),
        transition=transition(steps),
        criteria=(
            *map(row, judged.values()),
            *map(empty_door, doors),
            *map(objection_row, objections),
        ),
        flags=flags,
        subject=replace(request.subject, policy_sha256=policy.digest()),
        evidence=tuple(sorted(evidence.files)),
        created=request.now.isoformat(),
        expires=(request.now + LIFETIME).isoformat(),
        environment=dict(request.environment),
        dry_run=request.dry_run or (case.session.dry_run and moving),
    )


def judged_alone(policy: Policy, evidence: Evidence, request: Request, name: str) -> Judged:
    """All that is known about one criterion, whether or not a door asks for it.

    Raises:
        KeyError: a name that the policy does not know.
        ValueError: as for `judge`.
    """
    return _judged(policy, policy.criteria[name], _case(policy, evidence, request))


def _case(policy: Policy, evidence: Evidence, request: Request) -> _Case:
    _check(request)
    wrong = tuple(tuple(flaws(measurement)) for measurement in evidence.measurements)
    steps = in_order(request.transitions)
    live = LiveEvidence(policy, evidence.ledgers, steps, request.subject, request.now)
    return _Case(evidence, request, _origin(evidence, request), wrong, live)


def _origin(evidence: Evidence, request: Request) -> Origin:
    others = [session_of(attempts) for attempts in evidence.others]
    return Origin(
        session=session_of(evidence.attempts),
        subject=request.subject,
        now=request.now,
        machine=request.environment.get("machine", ""),
        others={session.run: session for session in others},
    )


def _check(request: Request) -> None:
    if request.now.utcoffset() is None:
        raise ValueError(f"now needs a zone, given {request.now.isoformat()}")
    unknown = sorted(set(request.transitions) - set(FLAGS))
    if unknown:
        raise ValueError(f"unknown flags {', '.join(unknown)}; allowed: {', '.join(FLAGS)}")


def _required(policy: Policy, step: Transition, session: Session) -> list[str]:
    """What a step demands, and what add-ons demand of a door that demands anything at all."""
    own = [criterion.id for criterion in policy.required(step)]
    added = [name for name in session.requires if name in policy.criteria]
    return list(dict.fromkeys([*own, *added])) if own else []


def _judged(policy: Policy, criterion: Criterion, case: _Case) -> Judged:
    known = _Known.of(criterion, case)
    findings = tuple(_findings(policy, criterion, case, known))
    further = criterion.at_stretch()
    stretch = worst(f.outcome for f in _findings(policy, further, case, known)) if further else None
    judged = Judged(criterion, findings, stretch=stretch)
    return answered(judged, policy.waiver(criterion.id, case.request.now))


@dataclass(frozen=True, slots=True)
class _Known:
    """The measurements about a criterion: all, those to believe, and why not the others."""

    measured: tuple[Measurement, ...]
    sound: tuple[Measurement, ...]
    complaints: tuple[Finding, ...]

    @classmethod
    def of(cls, criterion: Criterion, case: _Case) -> "_Known":
        """Sift the evidence of a case."""
        pairs = zip(case.evidence.measurements, case.flaws, strict=True)
        measured = [pair for pair in pairs if about(criterion, pair[0])]
        sound: dict[str, Measurement] = {}
        complaints: list[Finding] = []
        for measurement, wrong in measured:
            given = [*wrong, *doubts(criterion, measurement, case.origin)]
            if measurement.id in sound:
                given.append("is there twice")
            complaints += (_complaint(criterion, measurement, reason) for reason in given)
            if not given:
                sound[measurement.id] = beside(measurement, case.session)
        return cls(tuple(m for m, _ in measured), tuple(sound.values()), tuple(complaints))


def _complaint(criterion: Criterion, measurement: Measurement, reason: str) -> Finding:
    return Finding(
        outcome=Outcome.INVALID,
        reason=f"{criterion.id}: evidence {measurement.id} {reason}",
        flags=treatment_flags(measurement),
    )


def _findings(
    policy: Policy, criterion: Criterion, case: _Case, known: _Known
) -> Iterator[Finding]:
    """Everything that is known about a criterion. Never empty."""
    yield from _of_reading(case.evidence)
    if criterion.source == "live":  # no session is behind it, so none speaks against it
        yield from case.live.findings(criterion)
        return
    yield from _of_session(policy, case)
    if not judgeable(criterion):
        reason = f"{criterion.id}: kind {criterion.kind.value!r} has no judge yet"
        yield Finding(outcome=Outcome.NO_DATA, reason=reason)
    elif criterion.measure is Measure.ATTEMPTS:
        yield from _of_attempts(criterion, case.session)
    else:
        yield from _of_items(criterion, case.session, known)
        yield from known.complaints
        for group in grouped(known.sound):
            yield from assess(criterion, group)
        yield from uncovered(criterion, known.measured, frozenset(case.request.transitions))
        yield from missing(policy, criterion, known.sound, case.evidence.earlier)


def _of_reading(evidence: Evidence) -> Iterator[Finding]:
    for problem in evidence.problems:
        yield Finding(outcome=Outcome.INVALID, reason=problem)


def _of_session(policy: Policy, case: _Case) -> Iterator[Finding]:
    """A run that did not end well may hide anything, so it speaks against every criterion."""
    session, request = case.session, case.request
    for problem in session.problems:
        yield Finding(outcome=Outcome.NO_DATA, reason=problem)
    for name in session.requires:
        if name not in policy.criteria:
            reason = f"an add-on requires {name!r}, which the policy does not know"
            yield Finding(outcome=Outcome.NO_DATA, reason=reason)
    if session.run and session.stage != request.stage:
        reason = f"the session gated {session.stage!r}, not {request.stage!r}"
        yield Finding(outcome=Outcome.INVALID, reason=reason)
    for flag, step in in_order(request.transitions).items():
        if flag not in session.flags:
            reason = f"the session did not judge {flag}"
            yield Finding(outcome=Outcome.NO_DATA, reason=reason, flags=frozenset({flag}))
        if request.stage not in (step.origin, step.target):
            reason = f"{flag} goes from {step.origin} to {step.target}, not by {request.stage}"
            yield Finding(outcome=Outcome.INVALID, reason=reason, flags=frozenset({flag}))


def _of_attempts(criterion: Criterion, session: Session) -> Iterator[Finding]:
    """Every planned item passed, at its first and only attempt."""
    n, bad = len(session.items), [item for item in session.items if item.problem]
    missing = max(criterion.min_samples - n, 0)
    count = f"{criterion.id} {len(bad)} {'>' if bad else '='} 0 items without a pass"
    if missing or not bad:
        yield Finding(
            outcome=Outcome.NO_DATA if missing else Outcome.PASS,
            reason=f"{count} (n={grouped_digits(n)})",
            estimate=float(len(bad)),
            limit=0.0,
            n=n,
            needs=missing or None,
        )
    for item in bad:
        yield Finding(
            outcome=Outcome.FAIL if item.failed else Outcome.NO_DATA,
            reason=f"{count} (n={grouped_digits(n)}): {item.id}: {item.problem}",
            estimate=float(len(bad)),
            limit=0.0,
            n=n,
            attributed=item.failed,
        )


def _of_items(criterion: Criterion, session: Session, known: _Known) -> Iterator[Finding]:
    """Each item that was planned for a criterion passed and wrote its measurement.

    With sound evidence at hand, which then comes from elsewhere, none has to be planned.
    """
    wrote = {m.item for m in known.measured}
    items = session.about(criterion.id)
    if not items and not known.sound:
        reason = f"{criterion.id}: no item was planned for it"
        yield Finding(outcome=Outcome.NO_DATA, reason=reason, absent=True)
    for item in items:
        problem = item.problem or ("" if item.id in wrote else "wrote no measurement")
        if problem:
            yield Finding(
                outcome=Outcome.NO_DATA,
                reason=f"{criterion.id}: {item.id}: {problem}",
                absent=item.skipped and item.id not in wrote,
            )
