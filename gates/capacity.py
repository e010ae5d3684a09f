"""What an engine holds at once: streams that it generates, and connections for them."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from math import inf
from statistics import median
from typing import Final

from gates.criteria import Criterion, Outcome
from gates.evidence import Measurement
from gates.findings import Finding, by_interval, compared, number, plain
from gates.groups import Group
from gates.samples import Outcome as Ended
from gates.samples import Sample
from gates.statistics import Interval
from gates.text import percent, streams
from gates.usage import FRONT_END

_HTTP1: Final = "h1"
_HTTP2: Final = "h2"


def streams_floor(criterion: Criterion, group: Group) -> Iterator[Finding]:
    """At least `limit` streams were generated at once, and ended well; each run by itself.

    A stream that waits in a queue is none: it counts from its first text to its end.
    """
    limit = number(criterion, "limit")
    for measurement in group.measurements:
        held = at_once((s.first_token, s.end) for s in measurement.samples if _well(s))
        asked = at_once((s.sent, s.end) for s in measurement.samples)
        n = sum(map(_well, measurement.samples))
        enough = n >= criterion.min_samples
        if asked < limit:
            words = f"only {asked} streams were asked for at once, to show {streams(limit)}"
            yield plain(criterion, group, Outcome.INCONCLUSIVE, words, limit=limit, n=n)
            continue
        outcome = Outcome.FAIL if held < limit else Outcome.PASS
        yield compared(
            criterion,
            group,
            outcome if enough else Outcome.INCONCLUSIVE,
            streams,
            estimate=float(held),
            interval=Interval(held, held),
            limit=limit,
            n=n,
            bounds=f"{asked} asked for",
            of=" requests that ended well",
            needs=None if enough else criterion.min_samples - n,
            attributed=enough and held < limit,
        )


def connections_ceiling(criterion: Criterion, group: Group) -> Iterator[Finding]:
    """Connections that the engine holds for streams over HTTP/2, as a share of over HTTP/1.1.

    All readings under load count, of either protocol; both runs of one test, one model and one
    flag set. A number that is held is no sample, so the bounds are those of what was read.
    """
    limit = number(criterion, "limit")
    readings = {_HTTP1: list[float](), _HTTP2: list[float]()}
    served = {_HTTP1: 0, _HTTP2: 0}
    for measurement in group.measurements:
        protocols = {s.protocol for s in measurement.samples if s.protocol is not None}
        if len(protocols) != 1 or not protocols <= readings.keys():
            words = f"one run over {', '.join(sorted(protocols)) or 'no protocol'}, not over one"
            yield plain(criterion, group, Outcome.INCONCLUSIVE, words)
            continue
        (protocol,) = protocols
        readings[protocol] += _connections(measurement)
        served[protocol] += sum(map(_well, measurement.samples))
    missing = [name for name, found in readings.items() if not any(found)]
    if missing:
        words = f"no connection was seen over {' and '.join(missing)}"
        yield plain(criterion, group, Outcome.NO_DATA, words)
    else:
        yield _shares(criterion, group, readings, served, limit)


def at_once(spans: Iterable[tuple[float | None, float | None]]) -> int:
    """The most spans that overlap; one without a beginning or an end is none."""
    moments = [
        moment
        for begin, end in spans
        if begin is not None and end is not None
        for moment in ((begin, 1), (end, -1))
    ]
    return max(accumulate(change for _, change in sorted(moments)), default=0)


def _shares(
    criterion: Criterion,
    group: Group,
    readings: dict[str, list[float]],
    served: dict[str, int],
    limit: float,
) -> Finding:
    old, new = readings[_HTTP1], readings[_HTTP2]
    least = min(served.values())
    widest = max(new) / min(old) if min(old) > 0 else inf
    interval = Interval(min(new) / max(old), widest)
    return by_interval(
        criterion,
        group,
        percent,
        estimate=median(new) / median(old) if median(old) > 0 else None,
        interval=interval,
        limit=limit,
        n=least,
        bounds=f"{_spread(new)} connections beside {_spread(old)}",
        of=" requests over each",
    )


def _spread(readings: Sequence[float]) -> str:
    low, high = int(min(readings)), int(max(readings))
    return f"{low}" if low == high else f"{low}-{high}"


def _connections(measurement: Measurement) -> list[float]:
    """The readings of the front end while requests were under way."""
    begins = [s.sent for s in measurement.samples if s.sent is not None]
    ends = [s.end for s in measurement.samples if s.end is not None]
    if not begins or not ends:
        return []
    return [
        float(reading.connections)
        for reading in measurement.usage
        if reading.part == FRONT_END
        and reading.connections is not None
        and min(begins) <= reading.at <= max(ends)
    ]


def _well(sample: Sample) -> bool:
    return sample.outcome is Ended.OK
