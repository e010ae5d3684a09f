"""Throughput: requests that end well each second, in stretches of a run or in paired rounds.

Throughput says something only of an engine that is kept busy: a test that declares such a
criterion has as many requests under way as the engine takes.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import inf, isfinite

from gates.criteria import Criterion, Outcome
from gates.evidence import Measurement
from gates.findings import Finding, by_interval, number, plain
from gates.groups import CONTROL, TREATMENT, Group
from gates.paired import RatioEstimate, further_pairs
from gates.samples import Outcome as Ended
from gates.samples import Sample
from gates.statistics import Interval, quantile, quantile_interval
from gates.text import each_second, factor
from gates.throughput import ratio_of_rounds

#: Stretches of equal length that a run without rounds is cut into.
_STRETCHES = 20
_HALF = 0.5


def throughput_floor(criterion: Criterion, group: Group) -> Iterator[Finding]:
    """The median stretch over `limit`; each run by itself, since each asked something else."""
    limit = number(criterion, "limit")
    for measurement in group.measurements:
        rates = _stretches([s for s in measurement.samples if s.arm == TREATMENT])
        if not rates:
            yield plain(criterion, group, Outcome.NO_DATA, "no request that was sent")
            continue
        interval = quantile_interval(rates, _HALF, criterion.confidence)
        yield by_interval(
            criterion,
            group,
            each_second,
            estimate=quantile(rates, _HALF),
            interval=interval,
            limit=limit,
            n=len(rates),
            of=" stretches",
        )


def throughput_ratio(criterion: Criterion, group: Group) -> Iterator[Finding]:
    """Treatment over control, round by round, at least `margin`."""
    treatment: list[float] = []
    control: list[float] = []
    for measurement in group.measurements:
        rounds = _rounds(measurement)
        if isinstance(rounds, str):
            yield plain(criterion, group, Outcome.INCONCLUSIVE, rounds)
        else:
            treatment += rounds[0]
            control += rounds[1]
    if treatment:
        # Bounds that hold at every look have nothing to share out over looks.
        found = ratio_of_rounds(treatment, control, criterion.confidence)
        yield _compared(criterion, group, found)


def _compared(criterion: Criterion, group: Group, found: RatioEstimate) -> Finding:
    margin = number(criterion, "margin")
    below = found.estimate / found.low if found.low else inf
    return by_interval(
        criterion,
        group,
        factor,
        estimate=found.estimate,
        interval=Interval(found.low, found.high),
        limit=margin,
        n=found.pairs,
        of=" rounds",
        needs=further_pairs(found.pairs, below, found.estimate / margin),
    )


def _rounds(measurement: Measurement) -> tuple[list[float], list[float]] | str:
    """The throughputs of both arms, or what stands in the way of pairing them."""
    treatment, control = (
        _blocks([s for s in measurement.samples if s.arm == arm]) for arm in (TREATMENT, CONTROL)
    )
    if not control:
        return "no control to compare with"
    if len(treatment) != len(control):
        return f"{len(treatment)} treatment and {len(control)} control rounds do not pair"
    for arm, blocks in ((TREATMENT, treatment), (CONTROL, control)):
        ends = [s.outcome is Ended.OK for block in blocks for s in block]
        if not all(ends):  # turning requests away is quick, and no throughput
            lost = ends.count(False)
            return f"{lost} of {len(ends)} {arm} requests did not end well: not the same work"
    rates = [_rate(block) for block in treatment], [_rate(block) for block in control]
    if not all(isfinite(rate) for arm in rates for rate in arm):
        return "a round took no time"
    return rates


def _blocks(samples: Iterable[Sample]) -> list[list[Sample]]:
    """The samples of each block, in order."""
    blocks: dict[int, list[Sample]] = {}
    for sample in samples:
        blocks.setdefault(sample.block, []).append(sample)
    return [blocks[number] for number in sorted(blocks)]


def _rate(block: Sequence[Sample]) -> float:
    """Requests of a block that ended well, each second from its first to its last moment."""
    moments = [t for s in block for t in (s.sent, s.end) if t is not None]
    well = sum(s.outcome is Ended.OK for s in block)
    if not well:
        return 0.0
    length = max(moments) - min(moments)
    return well / length if length > 0 else inf


def _stretches(samples: Sequence[Sample]) -> list[float]:
    """The throughput of each round where there are many, else of stretches of equal length."""
    blocks = _blocks(samples)
    if len(blocks) >= _STRETCHES:
        return [rate for rate in map(_rate, blocks) if isfinite(rate)]
    return [rate for block in blocks for rate in _cut(block)]


def _cut(block: Sequence[Sample]) -> Iterator[float]:
    begin = min((s.sent for s in block if s.sent is not None), default=None)
    last = max((s.end for s in block if s.end is not None), default=None)
    if begin is None or last is None or last <= begin:
        return
    length = (last - begin) / _STRETCHES
    counts = [0] * _STRETCHES
    for sample in block:
        if sample.outcome is Ended.OK and sample.end is not None:
            counts[min(int((sample.end - begin) / length), _STRETCHES - 1)] += 1
    yield from (count / length for count in counts)
