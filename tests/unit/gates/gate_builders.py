"""Small builders of evidence: a healthy gate by default, and one thing changed at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import combinations
from typing import Any

from engine.core.flags import FLAGS, flag_set_name, joined, parse_flag_set
from gates.attempts import Attempt, Kind
from gates.evidence import Check, EngineIdentity, Measurement
from gates.journal import ChaosVerdict, Journal
from gates.judge import Evidence, Request
from gates.planned import PHASES
from gates.policy import load_policy
from gates.samples import Outcome, Sample
from gates.stages import Policy, Transition
from gates.verdict import Subject, Verdict

RUN = "run-1"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CREATED = (NOW - timedelta(minutes=5)).isoformat()
SUBJECT = Subject(
    commit="c0ffee",
    config_sha256="cf" * 32,
    engine_version="0.1.0",
    epochs=dict.fromkeys(FLAGS, 0),
    models={"tiny": "aa" * 32},
)
START, TRAFFIC, TIMING = "suite::test_starts", "suite::test_answers", "suite::test_pace"
DRILL = "suite::test_drill"


@cache
def policy() -> Policy:
    """The packaged one."""
    return load_policy()


def engine(flag_set: str, **changes: Any) -> EngineIdentity:
    """The identity of an engine of the subject."""
    identity = EngineIdentity(
        flag_set=flag_set,
        model="tiny",
        model_sha256=SUBJECT.models["tiny"],
        engine_version=SUBJECT.engine_version,
        commit=SUBJECT.commit,
        config_sha256=SUBJECT.config_sha256,
    )
    return replace(identity, **changes)


def sample(index: int, flag_set: str, arm: str = "treatment", **changes: Any) -> Sample:
    """A request that was answered in 0.1 s, its first token after 0.05 s."""
    start = float(index)
    fine = Sample(
        index=index,
        arm=arm,
        block=index,
        scheduled=start,
        sent=start,
        first_token=start + 0.05,
        end=start + 0.1,
        outcome=Outcome.OK,
        flags=joined(parse_flag_set(flag_set)),
    )
    return replace(fine, **changes)


@cache
def traffic(
    n: int, flag_set: str = "all", *, failed: int = 0, cut: int = 0, arm: str = "treatment"
) -> tuple[Sample, ...]:
    """So many requests, the first of them failed or cut. Arms have indices of their own."""
    bad = [Outcome.FAILED] * failed + [Outcome.CUT] * cut
    ends = bad + [Outcome.OK] * (n - len(bad))
    first = 0 if arm == "treatment" else 1_000_000
    return tuple(sample(first + i, flag_set, arm, outcome=end) for i, end in enumerate(ends))


def paired(
    pairs: int, flag_set: str = "all", control: str = "off", slower: float = 1.0
) -> tuple[Sample, ...]:
    """Interleaved requests A B B A; the treatment's times are `slower` times as long."""
    samples = []
    for pair in range(pairs):
        order = ("treatment", "control") if pair % 2 == 0 else ("control", "treatment")
        base = 0.05 * (1 + 0.1 * ((pair * 7919) % 101) / 101)
        for place, arm in enumerate(order):
            wobble = 1 + 0.02 * ((2 * pair + place) * 104729 % 97) / 97
            factor = wobble * (slower if arm == "treatment" else 1.0)
            samples.append(_paced(2 * pair + place, arm, flag_set, control, base * factor))
    return tuple(samples)


def _paced(index: int, arm: str, flag_set: str, control: str, time: float) -> Sample:
    start = float(index)
    own = flag_set if arm == "treatment" else control
    return sample(index, own, arm, first_token=start + time, end=start + 2 * time)


def measurement(
    item: str, criteria: Sequence[str], flag_set: str = "all", control: str = "", **changes: Any
) -> Measurement:
    """What one attempt of one test brought."""
    arms = {"treatment": engine(flag_set)} | ({"control": engine(control)} if control else {})
    fine = Measurement(
        run=RUN,
        item=item,
        attempt=1,
        criteria=tuple(criteria),
        arms=arms,
        machine="linux-x86_64-2cpu",
        created=CREATED,
        id=f"{item.rpartition('::')[2]}-{flag_set}-{control}",
    )
    return replace(fine, **changes)


def flag_sets(flags: Iterable[str] = FLAGS) -> list[str]:
    """The names of all combinations of some flags."""
    names = tuple(flags)
    sizes = range(len(names) + 1)
    return [flag_set_name(members) for size in sizes for members in combinations(names, size)]


def starts(flags: Iterable[str] = FLAGS) -> tuple[Measurement, ...]:
    """Every combination started, answered and stopped clean."""
    checks = (Check(name="ready", ok=True), Check(name="stopped clean", ok=True))
    return tuple(
        measurement(f"{START}[{name}]", ["flag_sets_start"], name, checks=checks)
        for name in flag_sets(flags)
    )


def answers(n: int = 3_000, flag_set: str = "all", **bad: int) -> Measurement:
    """Traffic for the error rate and for lost streams."""
    samples = traffic(n, flag_set, **bad)
    return measurement(TRAFFIC, ["error_rate", "no_lost_stream"], flag_set, samples=samples)


def pace(pairs: int = 100, slower: float = 1.0, flag_set: str = "all") -> Measurement:
    """An interleaved comparison with all flags off."""
    criteria = ["ttft_p95_vs_control", "latency_p95_vs_control"]
    samples = paired(pairs, flag_set, slower=slower)
    return measurement(TIMING, criteria, flag_set, "off", samples=samples)


def drilled(**changes: Any) -> Measurement:
    """A rollback that was rehearsed, and lost nobody; about no flag."""
    fine = Journal(
        experiment="rollback-drill",
        steady_before=True,
        steady_after=True,
        proven=True,
        lost_streams=0,
        verdict=ChaosVerdict.PASS,
        recovery_seconds=0.5,
        requested={"streams": 24},
        read_back={"engine": 0.0},
        measured={"apply_seconds": 0.2},
    )
    return measurement(DRILL, ["drill"], "off", journals=(replace(fine, **changes),))


def healthy() -> tuple[Measurement, ...]:
    """All that the door into canary asks for."""
    return (*starts(), answers(), pace(), drilled())


def planned(item: str, *criteria: str) -> Attempt:
    """A row of the plan."""
    return Attempt(kind=Kind.PLANNED, run=RUN, item=item, criteria=criteria)


def phases(item: str, call: str = "passed", attempt: int = 1) -> tuple[Attempt, ...]:
    """The three phases of an attempt."""
    outcomes = {"setup": "passed", "call": call, "teardown": "passed"}
    return tuple(
        Attempt(kind=Kind.PHASE, run=RUN, item=item, attempt=attempt, phase=p, outcome=outcomes[p])
        for p in PHASES
    )


def head(**changes: Any) -> Attempt:
    """The first row of a session."""
    fine = Attempt(
        kind=Kind.SESSION, run=RUN, stage="canary", flags=FLAGS, origin="store", workers=1
    )
    return replace(fine, **changes)


def end(exit_status: int = 0) -> Attempt:
    """The last row of a session."""
    return Attempt(kind=Kind.END, run=RUN, exit_status=exit_status)


def attempts(
    measurements: Iterable[Measurement], extra: Iterable[Attempt] = (), **changes: Any
) -> tuple[Attempt, ...]:
    """A session in which the test of each measurement was planned and passed."""
    plan = {m.item: m.criteria for m in measurements}
    rows = [row for item in plan for row in phases(item)]
    return (head(**changes), *(planned(i, *c) for i, c in plan.items()), *rows, *extra, end())


def evidence(measurements: Sequence[Measurement] | None = None, **changes: Any) -> Evidence:
    """A session with these measurements, the healthy ones by default."""
    chosen = healthy() if measurements is None else tuple(measurements)
    return replace(Evidence(attempts=attempts(chosen), measurements=chosen), **changes)


def request(flags: Iterable[str] = FLAGS, **changes: Any) -> Request:
    """Into canary, from off."""
    steps = {flag: Transition("off", "canary") for flag in flags}
    fine = Request(stage="canary", transitions=steps, now=NOW, subject=SUBJECT)
    return replace(fine, **changes)


def row(verdict: Verdict, criterion: str) -> Any:
    """The row of a criterion."""
    return next(r for r in verdict.criteria if r.id == criterion)


def swapped(measurements: Iterable[Measurement], new: Measurement) -> tuple[Measurement, ...]:
    """The measurements, with the one of the same test replaced."""
    return tuple(new if m.item == new.item else m for m in measurements)
