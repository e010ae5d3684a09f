"""Comparisons: a quantile of the treatment's times against that of its control.

Not worse than a margin above 1 (non-inferiority), or better than one below (improvement): the
same test, since both say that the ratio lies under a number.

Both arms were measured in pairs, on one machine, interleaved. A run whose arms do not pair
is set aside with a finding of its own, so that it cannot cover up what the others show.

A client that left before its time could be told says nothing of the server that it left: its
pair is left out on both sides, and counted in the reason. How many leave is another question.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress
from typing import Final

from gates.criteria import Criterion, Measure, Outcome
from gates.evidence import Measurement
from gates.findings import Finding, by_interval, number, plain
from gates.groups import CONTROL, TREATMENT, Group, in_order, left_untimed, seconds
from gates.paired import RatioEstimate, further_pairs, ratio_of_quantiles
from gates.samples import Sample
from gates.statistics import Interval, quantile
from gates.text import factor, ms

#: A treatment request without a time ranks this many times beyond the longest one measured.
_BEYOND: Final = 1_000.0


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The times of both arms, pair by pair; a treatment request may have none.

    `left` counts, for each arm, the clients that left untimed, whose pairs are not among them.
    """

    treatment: list[float | None]
    control: list[float]
    left: tuple[int, int] = (0, 0)


def times_ratio(criterion: Criterion, group: Group) -> Iterator[Finding]:
    """The ratio of quantiles, treatment over control, at most `margin`."""
    runs: list[_Pairs] = []
    for measurement in group.measurements:
        pairs = _pairs(measurement, criterion.measure)
        if isinstance(pairs, str):
            yield plain(criterion, group, Outcome.INCONCLUSIVE, pairs)
        else:
            runs.append(pairs)
    if runs:
        yield _compared(criterion, group, _pooled(runs))


def _pooled(runs: Sequence[_Pairs]) -> _Pairs:
    treatment = [time for run in runs for time in run.treatment]
    control = [time for run in runs for time in run.control]
    return _Pairs(treatment, control, (sum(r.left[0] for r in runs), sum(r.left[1] for r in runs)))


def _pairs(measurement: Measurement, measure: Measure) -> _Pairs | str:
    """The pairs of a run, or what stands in the way of pairing."""
    treatment, control = (
        in_order(sample for sample in measurement.samples if sample.arm == arm)
        for arm in (TREATMENT, CONTROL)
    )
    if not control:
        return "no control to compare with"
    if len(treatment) != len(control):
        return f"{len(treatment)} treatment and {len(control)} control requests do not pair"
    return _timed(treatment, control, measure)


def _timed(
    treatment: Sequence[Sample], control: Sequence[Sample], measure: Measure
) -> _Pairs | str:
    """The times of requests that pair, or what is wrong with them."""
    left = [[left_untimed(sample, measure) for sample in arm] for arm in (treatment, control)]
    stayed = [not (one or other) for one, other in zip(*left, strict=True)]
    times, others = (
        [seconds(sample, measure) for sample in compress(arm, stayed)]
        for arm in (treatment, control)
    )
    if not others:
        return f"in each of {len(control)} pairs a client left before its time could be told"
    known = [time for time in others if time is not None]
    if len(known) < len(others):
        return f"{len(others) - len(known)} of {len(others)} control requests did not end well"
    if min((time for time in (*times, *known) if time is not None), default=0.0) <= 0:
        return "a time is zero"
    return _Pairs(times, known, (sum(left[0]), sum(left[1])))


def _compared(criterion: Criterion, group: Group, pairs: _Pairs) -> Finding:
    margin, share = number(criterion, "margin"), number(criterion, "quantile")
    beyond = _BEYOND * max(*pairs.control, *(time or 0.0 for time in pairs.treatment))
    treatment = [beyond if time is None else time for time in pairs.treatment]
    ratio = _ratio(tuple(treatment), tuple(pairs.control), share, criterion.confidence_of_a_look)
    quantiles = f"{ms(quantile(treatment, share))} against {ms(quantile(pairs.control, share))}"
    lost = sum(time is None for time in pairs.treatment)
    without = f", {lost} without a time" if lost else ""
    if any(pairs.left):
        without += f", clients that left before: {pairs.left[0]} against {pairs.left[1]}"
    return by_interval(
        criterion,
        group,
        factor,
        estimate=ratio.estimate,
        interval=Interval(ratio.low, ratio.high),
        limit=margin,
        n=ratio.pairs,
        of=f" pairs{without}, {quantiles}",
        needs=further_pairs(ratio.pairs, ratio.high / ratio.estimate, margin / ratio.estimate),
    )


@lru_cache(maxsize=64)
def _ratio(
    treatment: tuple[float, ...], control: tuple[float, ...], share: float, confidence: float
) -> RatioEstimate:
    """The comparison takes a tenth of a second or so, and objections have it judged again."""
    return ratio_of_quantiles(treatment, control, share, confidence)
