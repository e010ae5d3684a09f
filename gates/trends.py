"""The slope of a noisy series, with an interval that allows for memory in the noise: pure.

Methods: the median of the slopes of all pairs (Theil, Indagationes Mathematicae 12, 1950),
which one jump of an allocator hardly moves; its interval from the distribution of Kendall's S
(Sen, Journal of the American Statistical Association 63, 1968). Readings that are close in
time resemble each other, and an interval that took them for independent would be too narrow:
they count for as few as they are worth (Bayley and Hammersley, Supplement to the Journal of
the Royal Statistical Society 8, 1946), by the correlation of neighbours, corrected for what
taking out a slope hides of it (Hamed, Journal of Hydrology 368, 2009).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import ceil, floor, inf, sqrt
from statistics import NormalDist, fmean, median
from typing import Final

from gates.statistics import Interval

#: Points that are compared with each other; longer series are summed up first.
MOST_POINTS: Final = 200
#: Below this the normal approximation of S is too rough to say anything.
LEAST_POINTS: Final = 20
#: No series counts for less than a hundredth of its points.
_MOST_ALIKE: Final = 0.98
#: Digits of a residual that say something: taking out a slope leaves noise in the others.
_DIGITS: Final = 9

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Trend:
    """A slope in units of y for one unit of x; its bounds each hold with the confidence asked."""

    estimate: float
    interval: Interval
    points: int


def trend(points: Sequence[Point], confidence: float) -> Trend | None:
    """The slope of y over x; None where there are too few points to tell.

    Args:
        points: pairs of x and y in the order in which they were taken; x never falls.
        confidence: of each bound alone, at least one half.
    """
    kept = _summed_up(points)
    slopes = sorted((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(kept, 2) if a[0] < b[0])
    if len(kept) < LEAST_POINTS or not slopes:
        return None
    estimate = median(slopes)
    half = NormalDist().inv_cdf(confidence) * sqrt(_variance(kept, estimate))
    return Trend(estimate, _between(slopes, half), len(kept))


def _summed_up(points: Sequence[Point]) -> list[Point]:
    """At most `MOST_POINTS`: the medians of stretches of equal length."""
    size = ceil(len(points) / MOST_POINTS)
    stretches = (points[at : at + size] for at in range(0, len(points), size or 1))
    return [(median(x for x, _ in part), median(y for _, y in part)) for part in stretches]


def _between(slopes: Sequence[float], half: float) -> Interval:
    """The slopes whose ranks are half the width of S away from the middle."""
    n = len(slopes)
    low, high = floor((n - half) / 2) - 1, ceil((n + half) / 2)
    return Interval(slopes[low] if low >= 0 else -inf, slopes[high] if high < n else inf)


def _variance(points: Sequence[Point], slope: float) -> float:
    """The variance of S for so many independent points, widened for those that are not."""
    n = len(points)
    seen = _correlation(_ranks([y - slope * x for x, y in points]))
    # What is seen of a short series, after its slope was taken out, is too little.
    likely = min(_MOST_ALIKE, max(0.0, (n * seen + 2) / (n - 4)))
    return n * (n - 1) * (2 * n + 5) / 18 * (1 + likely) / (1 - likely)


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1; values that are equal, but for the last digits, share theirs."""
    spread = max(map(abs, values)) or 1.0
    rounded = [round(value / spread, _DIGITS) for value in values]
    places: dict[float, list[int]] = {}
    for rank, value in enumerate(sorted(rounded), start=1):
        places.setdefault(value, []).append(rank)
    return [fmean(places[value]) for value in rounded]


def _correlation(values: Sequence[float]) -> float:
    """How much each value resembles the next, from -1 to 1; 0 for values that are all alike."""
    mean = fmean(values)
    away = [value - mean for value in values]
    whole = sum(value * value for value in away)
    return sum(a * b for a, b in pairwise(away)) / whole if whole else 0.0
