"""The judge: policy and evidence in, verdict out. Pure: the same input gives the same bytes.

Everything that is known about a criterion becomes a finding: one for each group that was
measured, and one for each thing that is missing or not to be believed. The worst finding
counts, so more evidence of trouble can only make a verdict worse.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import combinations

from engine.core.flags import FLAGS, FlagSet, flag_set_name
from gates.attempts import Attempt
from gates.criteria import WORST_FIRST, Covers, Criterion, Measure, Outcome, worst
from gates.evidence import Measurement
from gates.groups import declared, grouped, treatment_flags
from gates.kinds import Finding, assess
from gates.planned import Item, Session, session_of
from gates.provenance import doubts
from gates.stages import Policy, Transition
from gates.text import grouped_digits
from gates.verdict import (
    LIFETIME,
    CriterionRow,
    Decision,
    EvidenceFile,
    Subject,
    Verdict,
    rounded,
    worst_decision,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that a report folder holds; `problems` are the files that could not be read."""

    attempts: tuple[Attempt, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    files: tuple[EvidenceFile, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked: which flags go through which door, of which build, and when."""

    stage: str
    transitions: Mapping[str, Transition]
    now: datetime  #: UTC, aware
    subject: Subject
    dry_run: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


def judge(policy: Policy, evidence: Evidence, request: Request) -> Verdict:
    """Decide for every flag of a request.

    Raises:
        ValueError: a time without a zone, or a flag that does not exist.
    """
    _check(request)
    session = session_of(evidence.attempts)
    required = _required(policy, request)
    findings = {c.id: _findings(c, evidence, session, request) for c in required}
    rows = [_row(policy, c, findings[c.id], request.now) for c in required]
    waived = {row.id for row in rows if row.waived}
    flags = {
        flag: _decide(policy.required(step), findings, waived, flag)
        for flag, step in sorted(request.transitions.items(), key=lambda e: FLAGS.index(e[0]))
    }
    objections = [row for row in session.objections if row.run == session.run]
    flags = {flag: _objected(flag, made, objections) for flag, made in flags.items()}
    return Verdict(
        verdict=worst_decision(flags.values()),
        transition=_transition(request),
        criteria=(*rows, *_empty_doors(policy, request), *map(_objection_row, objections)),
        flags=flags,
        subject=replace(request.subject, policy_sha256=policy.digest()),
        evidence=tuple(sorted(evidence.files)),
        created=request.now.isoformat(),
        expires=(request.now + LIFETIME).isoformat(),
        environment=dict(request.environment),
        dry_run=request.dry_run or session.dry_run,
    )


def _check(request: Request) -> None:
    if request.now.utcoffset() is None:
        raise ValueError(f"now needs a zone, given {request.now.isoformat()}")
    unknown = sorted(set(request.transitions) - set(FLAGS))
    if unknown:
        raise ValueError(f"unknown flags {', '.join(unknown)}; allowed: {', '.join(FLAGS)}")


def _required(policy: Policy, request: Request) -> list[Criterion]:
    """What all doors of the request demand, each once, in the order of the policy."""
    names = {c.id for step in request.transitions.values() for c in policy.required(step)}
    return [criterion for name, criterion in policy.criteria.items() if name in names]


def _findings(
    criterion: Criterion, evidence: Evidence, session: Session, request: Request
) -> tuple[Finding, ...]:
    """Everything that is known about a criterion. Never empty."""
    found = [*_of_reading(evidence), *_of_session(session, request)]
    if criterion.measure is Measure.ATTEMPTS:
        return (*found, *_of_attempts(criterion, session))
    found += _of_items(criterion, session, evidence.measurements)
    measured = declared(criterion, evidence.measurements)
    found += _of_measurements(criterion, measured, session, request)
    found += _of_coverage(criterion, measured, frozenset(request.transitions))
    return tuple(found)


def _of_reading(evidence: Evidence) -> Iterator[Finding]:
    for problem in evidence.problems:
        yield Finding(outcome=Outcome.INVALID, reason=problem)


def _of_session(session: Session, request: Request) -> Iterator[Finding]:
    """A run that did not end well may hide anything, so it speaks against every criterion."""
    for problem in session.problems:
        yield Finding(outcome=Outcome.NO_DATA, reason=problem)
    if session.stage != request.stage:
        reason = f"the session gated {session.stage!r}, not {request.stage!r}"
        yield Finding(outcome=Outcome.INVALID, reason=reason)
    missing = [flag for flag in request.transitions if flag not in session.flags]
    for flag in sorted(missing, key=FLAGS.index):
        reason = f"the session did not judge {flag}"
        yield Finding(outcome=Outcome.NO_DATA, reason=reason, flags=frozenset({flag}))


def _of_attempts(criterion: Criterion, session: Session) -> Iterator[Finding]:
    """Every planned item passed, at its first and only attempt."""
    bad = [item for item in session.items if item.problem]
    for item in bad:
        outcome = Outcome.FAIL if item.failed else Outcome.NO_DATA
        reason = f"{criterion.id} {len(bad)} > 0 items without a pass (n={len(session.items)}): "
        yield Finding(
            outcome=outcome,
            reason=f"{reason}{item.id}: {item.problem}",
            estimate=float(len(bad)),
            limit=0.0,
            n=len(session.items),
            attributed=item.failed,
        )
    if bad:
        return
    n, missing = len(session.items), max(criterion.min_samples - len(session.items), 0)
    yield Finding(
        outcome=Outcome.NO_DATA if missing else Outcome.PASS,
        reason=f"{criterion.id} 0 = 0 items without a pass (n={grouped_digits(n)})",
        estimate=0.0,
        limit=0.0,
        n=n,
        needs=missing or None,
    )


def _of_items(
    criterion: Criterion, session: Session, measurements: Iterable[Measurement]
) -> Iterator[Finding]:
    """Each item that was planned for a criterion passed and wrote its measurement."""
    items = session.about(criterion.id)
    if not items:
        reason = f"{criterion.id}: no item was planned for it"
        yield Finding(outcome=Outcome.NO_DATA, reason=reason, absent=True)
    wrote = {m.item for m in declared(criterion, measurements)}
    for item in items:
        problem = item.problem or ("" if item.id in wrote else "wrote no measurement")
        if problem:
            yield Finding(
                outcome=Outcome.NO_DATA,
                reason=f"{criterion.id}: {item.id}: {problem}",
                absent=_only_skipped(item) and item.id not in wrote,
            )


def _only_skipped(item: Item) -> bool:
    return item.skipped and not item.failed


def _of_measurements(
    criterion: Criterion, measured: list[Measurement], session: Session, request: Request
) -> Iterator[Finding]:
    sound: dict[str, Measurement] = {}
    for measurement in measured:
        complaints = list(doubts(criterion, measurement, session, request.subject, request.now))
        if measurement.id in sound:
            complaints.append("is there twice")
        for complaint in complaints:
            yield Finding(
                outcome=Outcome.INVALID,
                reason=f"{criterion.id}: evidence {measurement.id} {complaint}",
                flags=treatment_flags(measurement),
            )
        if not complaints:
            sound[measurement.id] = _with_workers(measurement, session)
    for group in grouped(sound.values()):
        yield assess(criterion, group)


def _with_workers(measurement: Measurement, session: Session) -> Measurement:
    """A measurement shares the machine with every worker of its session."""
    return replace(measurement, workers=max(measurement.workers, session.workers))


def _of_coverage(
    criterion: Criterion, measured: list[Measurement], judged: FlagSet
) -> Iterator[Finding]:
    """A flag that nobody switched on was not shown to be sound."""
    seen = {treatment_flags(measurement) for measurement in measured}
    for flags in _uncovered(criterion.covers, seen, judged):
        reason = f"{criterion.id}: nothing was measured with flags={flag_set_name(flags)}"
        yield Finding(outcome=Outcome.NO_DATA, reason=reason, flags=flags, absent=True)


def _uncovered(covers: Covers, seen: set[FlagSet], judged: FlagSet) -> Iterator[FlagSet]:
    names = sorted(judged, key=FLAGS.index)
    if covers is Covers.EVERY_SET:
        sizes = range(len(names) + 1)
        every = (frozenset(members) for size in sizes for members in combinations(names, size))
        yield from (flags for flags in every if flags not in seen)
    elif covers is Covers.EACH_FLAG:
        on = frozenset().union(*seen)
        yield from (frozenset({name}) for name in names if name not in on)


def _row(
    policy: Policy, criterion: Criterion, findings: tuple[Finding, ...], now: datetime
) -> CriterionRow:
    first = min(findings, key=_badness)
    waiver = policy.waiver(criterion.id, now) if _waivable(findings) else None
    alike = sum(finding.outcome is first.outcome for finding in findings) - 1
    more = f" (and {alike} more)" if alike and first.outcome is not Outcome.PASS else ""
    answers = (
        f"waived by {waiver.owner} until {waiver.expires}: {waiver.reason}; " if waiver else ""
    )
    return CriterionRow(
        id=criterion.id,
        outcome=first.outcome,
        reason=f"{answers}{first.reason}{more}",
        estimate=rounded(first.estimate),
        interval=first.interval and (rounded(first.interval[0]), rounded(first.interval[1])),
        limit=rounded(first.limit),
        n=first.n,
        source=criterion.source,
        needs=first.needs,
        waived=waiver is not None,
    )


def _badness(finding: Finding) -> tuple[int, float, str]:
    """Sorts the worst finding first; among equals the one nearest to its limit, or over it."""
    bound = finding.interval[1] if finding.interval else (finding.estimate or 0.0)
    return (WORST_FIRST.index(finding.outcome), -bound, finding.reason)


def _waivable(findings: Iterable[Finding]) -> bool:
    """Whether all that stands in the way is that something was never measured."""
    ways = [finding for finding in findings if finding.outcome is not Outcome.PASS]
    return bool(ways) and all(finding.absent for finding in ways)


def _decide(
    required: tuple[Criterion, ...],
    findings: Mapping[str, tuple[Finding, ...]],
    waived: set[str],
    flag: str,
) -> Decision:
    passed = 0
    decisions = []
    for criterion in required:
        own = [f for f in findings[criterion.id] if not f.flags or flag in f.flags]
        outcome = worst(finding.outcome for finding in own)
        if criterion.critical and any(finding.attributed for finding in own):
            decisions.append(Decision.ROLLBACK)
        elif outcome is Outcome.PASS:
            passed += 1
        elif criterion.id not in waived:
            decisions.append(Decision.HOLD)
    if not passed:
        decisions.append(Decision.HOLD)  # a door with nothing but waivers showed nothing
    return worst_decision(decisions) if decisions else Decision.PROMOTE


def _transition(request: Request) -> dict[str, object]:
    steps = dict(sorted(request.transitions.items(), key=lambda e: FLAGS.index(e[0])))
    origins, targets = {s.origin for s in steps.values()}, {s.target for s in steps.values()}
    return {
        "from": origins.pop() if len(origins) == 1 else None,
        "to": targets.pop() if len(targets) == 1 else None,
        "flags": list(steps),
        "each": {flag: {"from": s.origin, "to": s.target} for flag, s in steps.items()},
    }


def _empty_doors(policy: Policy, request: Request) -> Iterator[CriterionRow]:
    """A door that demands nothing holds; the row says so."""
    steps = {(s.origin, s.target): s for s in request.transitions.values()}
    for origin, target in sorted(steps):
        if not policy.required(steps[origin, target]):
            reason = "nothing is required at this door, so nothing was shown"
            yield CriterionRow(
                id="door", outcome=Outcome.NO_DATA, reason=f"{origin} to {target}: {reason}"
            )


def _objected(flag: str, made: Decision, objections: Iterable[Attempt]) -> Decision:
    """An add-on can turn green to red, never red to green."""
    theirs = [
        Decision.ROLLBACK if row.outcome == Decision.ROLLBACK else Decision.HOLD
        for row in objections
        if not row.flags or flag in row.flags
    ]
    return worst_decision([made, *theirs])


def _objection_row(row: Attempt) -> CriterionRow:
    reason = f"{row.item or 'an add-on'} objects: {row.reason or 'without a reason'}"
    outcome = Outcome.FAIL if row.outcome == Decision.ROLLBACK else Outcome.NO_DATA
    return CriterionRow(id="objection", outcome=outcome, reason=reason)
