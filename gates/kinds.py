"""Which function judges a group by which kind of criterion."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from gates.capacity import connections_ceiling, streams_floor
from gates.criteria import ALONE, JUDGED, TIMES, Criterion, Kind, Measure, Outcome
from gates.findings import Finding, plain
from gates.groups import Group
from gates.growth import memory_slope
from gates.invariants import checks, lost_streams
from gates.rates import error_rate, hit_rate, quantile_ceiling
from gates.ratios import times_ratio
from gates.recovery import recovery
from gates.rounds import throughput_floor, throughput_ratio

_Judge = Callable[[Criterion, Group], Iterable[Finding]]


def judgeable(criterion: Criterion) -> bool:
    """Whether there is a judge for a criterion."""
    measures = JUDGED.get(criterion.kind, frozenset())
    return criterion.source == "tests" and criterion.measure in measures


def assess(criterion: Criterion, group: Group) -> Iterator[Finding]:
    """Judge a group of sound measurements by a criterion.

    A doubt about some of them is a finding beside the others and takes nothing from them:
    whatever is added to a group, a failure that it shows stays shown.

    Raises:
        ValueError: for a criterion that is not `judgeable`.
    """
    if criterion.kind is not Kind.INVARIANT:
        yield from _broken_checks(criterion, group)
    if criterion.measure in ALONE:
        yield from _crowded(criterion, group)
        alone = tuple(m for m in group.measurements if m.workers == 1)
        group = replace(group, measurements=alone)
    if group.measurements:
        yield from _assessed(criterion, group)


def _assessed(criterion: Criterion, group: Group) -> Iterable[Finding]:
    judge = JUDGES.get((criterion.kind, criterion.measure))
    if judge is None:
        raise ValueError(
            f"{criterion.id}: kind {criterion.kind} of {criterion.measure} has no judge of groups"
        )
    return judge(criterion, group)


def _single(judge: Callable[[Criterion, Group], Finding]) -> _Judge:
    """A judge that always has exactly one finding."""
    return lambda criterion, group: (judge(criterion, group),)


_TIMES_COMPARED: Final = {
    (kind, measure): times_ratio
    for kind in (Kind.IMPROVEMENT, Kind.NON_INFERIORITY)
    for measure in TIMES
}
#: Attempts are judged by the session as a whole, everything else in groups.
JUDGES: Final[Mapping[tuple[Kind, Measure], _Judge]] = {
    (Kind.CEILING, Measure.ERROR_RATE): _single(error_rate),
    (Kind.CEILING, Measure.TTFT): _single(quantile_ceiling),
    (Kind.CEILING, Measure.LATENCY): _single(quantile_ceiling),
    (Kind.CEILING, Measure.MEMORY_SLOPE): memory_slope,
    (Kind.CEILING, Measure.CONNECTIONS): connections_ceiling,
    (Kind.FLOOR, Measure.THROUGHPUT): throughput_floor,
    (Kind.FLOOR, Measure.STREAMS): streams_floor,
    (Kind.FLOOR, Measure.HIT_RATE): _single(hit_rate),
    **_TIMES_COMPARED,
    (Kind.IMPROVEMENT, Measure.THROUGHPUT): throughput_ratio,
    (Kind.NON_INFERIORITY, Measure.THROUGHPUT): throughput_ratio,
    (Kind.INVARIANT, Measure.CHECKS): _single(checks),
    (Kind.INVARIANT, Measure.SUITE): _single(checks),
    (Kind.INVARIANT, Measure.LOST_STREAMS): _single(lost_streams),
    (Kind.CHAOS, Measure.RECOVERY): recovery,
}


def _broken_checks(criterion: Criterion, group: Group) -> Iterator[Finding]:
    """What a test found broken spoils its numbers."""
    for check in group.checks():
        if not check.ok:
            words = f"check {check.name!r} did not hold"
            yield plain(criterion, group, Outcome.INVALID, words)


def _crowded(criterion: Criterion, group: Group) -> Iterator[Finding]:
    for measurement in group.measurements:
        if measurement.workers != 1:
            words = (
                f"measured beside {measurement.workers} pytest workers; "
                "it needs the machine to itself"
            )
            yield plain(criterion, group, Outcome.INCONCLUSIVE, words)
