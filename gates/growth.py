"""Memory that grows with the requests served: a leak, told from noise by its slope."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from gates.criteria import Criterion, Outcome
from gates.findings import Finding, by_interval, number, plain
from gates.groups import Group
from gates.text import kib
from gates.trends import Trend, trend
from gates.usage import ENGINE, RUNTIME, Usage


def memory_slope(criterion: Criterion, group: Group) -> Iterator[Finding]:
    """Each part's memory grows by at most `limit` bytes a request.

    A run is judged by itself: two engines, or two lives of one, have no slope in common.
    """
    found = False
    for measurement in group.measurements:
        for part in _parts(measurement.usage):
            found = True
            yield _finding(criterion, group, part, measurement.usage)
    if not found:
        yield plain(criterion, group, Outcome.NO_DATA, "no reading of memory")


def leak(usage: Iterable[Usage], part: str, confidence: float) -> Trend | None:
    """The growth of one part's memory, in bytes a request; None: too little to tell.

    Of the runtime's resident memory the prefix store is taken off: it is a cache with a
    budget, and fills with every new prompt until that is spent. What was read before the
    first measured request ended belongs to the warm-up.
    """
    readings = list(usage)
    stored = [(r.at, r.prefix_bytes) for r in readings if r.prefix_bytes is not None]
    cache = stored if part == RUNTIME else []
    points = [
        (float(r.requests), r.rss_bytes - _between(cache, r.at))
        for r in readings
        if r.part == part and r.requests and r.rss_bytes is not None
    ]
    return trend(points, confidence)


def _between(readings: Sequence[tuple[float, int]], at: float) -> float:
    """A figure at a moment: on the line between two readings, or the nearest one."""
    place = bisect_left(readings, (at, 0))
    around = readings[max(0, place - 1) : place + 1]
    if len(around) < 2 or around[0][0] == around[1][0]:  # noqa: PLR2004 - a line needs two
        return float(around[-1][1]) if around else 0.0
    (early, low), (late, high) = around
    share = min(1.0, (at - early) / (late - early))
    return low + (high - low) * share


def _parts(usage: Iterable[Usage]) -> list[str]:
    """The parts that are processes; one whose memory could not be read must not go missing."""
    return sorted({reading.part for reading in usage} - {ENGINE})


def _finding(criterion: Criterion, group: Group, part: str, usage: Sequence[Usage]) -> Finding:
    limit = number(criterion, "limit")
    n = max(reading.requests for reading in usage if reading.part == part)
    found = leak(usage, part, criterion.confidence)
    if found is None:
        words = f"too few readings of the {part} to tell a slope"
        return plain(criterion, group, Outcome.INCONCLUSIVE, words, n=n)
    return by_interval(
        criterion,
        group,
        kib,
        seen=f"{kib(found.estimate)} a request",
        estimate=found.estimate,
        interval=found.interval,
        limit=limit,
        n=n,
        of=f", {part}",
    )
