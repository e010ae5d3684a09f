"""Which function judges a group by which kind of criterion."""

from collections.abc import Iterator
from dataclasses import replace

from gates.criteria import JUDGED, TIMES, Criterion, Kind, Measure, Outcome
from gates.findings import Finding, where
from gates.groups import Group
from gates.growth import memory_slope
from gates.invariants import checks, lost_streams
from gates.rates import error_rate, quantile_ceiling
from gates.ratios import non_inferiority


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
    if criterion.measure in TIMES:
        yield from _crowded(criterion, group)
        alone = tuple(m for m in group.measurements if m.workers == 1)
        group = replace(group, measurements=alone)
    if group.measurements:
        yield from _assessed(criterion, group)


def _assessed(criterion: Criterion, group: Group) -> Iterator[Finding]:
    match criterion.kind, criterion.measure:
        case Kind.CEILING, Measure.ERROR_RATE:
            yield error_rate(criterion, group)
        case Kind.CEILING, Measure.TTFT | Measure.LATENCY:
            yield quantile_ceiling(criterion, group)
        case Kind.CEILING, Measure.MEMORY_SLOPE:
            yield from memory_slope(criterion, group)
        case Kind.NON_INFERIORITY, Measure.TTFT | Measure.LATENCY:
            yield from non_inferiority(criterion, group)
        case Kind.INVARIANT, Measure.CHECKS:
            yield checks(criterion, group)
        case Kind.INVARIANT, Measure.LOST_STREAMS:
            yield lost_streams(criterion, group)
        case kind, measure:
            raise ValueError(f"{criterion.id}: kind {kind} of {measure} has no judge of groups")


def _broken_checks(criterion: Criterion, group: Group) -> Iterator[Finding]:
    """What a test found broken spoils its numbers."""
    for check in group.checks():
        if not check.ok:
            reason = f"{criterion.id}: check {check.name!r} did not hold ({where(group)})"
            yield Finding(outcome=Outcome.INVALID, reason=reason, flags=group.flags)


def _crowded(criterion: Criterion, group: Group) -> Iterator[Finding]:
    for measurement in group.measurements:
        if measurement.workers != 1:
            reason = (
                f"{criterion.id}: measured beside {measurement.workers} pytest workers; "
                f"a time needs the machine to itself ({where(group)})"
            )
            yield Finding(outcome=Outcome.INCONCLUSIVE, reason=reason, flags=group.flags)
