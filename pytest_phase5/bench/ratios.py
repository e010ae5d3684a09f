"""Ratios of rounds that were measured next to each other, with their intervals. Pure.

Method: Student's interval (The Probable Error of a Mean, Biometrika 6, 1908) on logarithms.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log, sqrt
from statistics import fmean, median, stdev
from typing import Final

from gates.statistics import student_quantile

#: Two-sided confidence of the interval.
CONFIDENCE: Final = 0.95


@dataclass(frozen=True)
class Estimate:
    """A ratio; the ends of its interval are None where there is only one pair."""

    ratio: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """For tables."""
        if self.low is None or self.high is None:
            return f"{self.ratio:.3f}"
        return f"{self.ratio:.3f} ({self.low:.3f}-{self.high:.3f})"

    def rounded(self) -> dict[str, float]:
        """For JSON; what there is."""
        values = {"ratio": self.ratio, "low": self.low, "high": self.high}
        return {name: round(value, 3) for name, value in values.items() if value is not None}


def estimate(ratios: Sequence[float]) -> Estimate:
    """The geometric mean with Student's interval on the logarithms; ratios are positive."""
    logs = [log(ratio) for ratio in ratios]
    mean = fmean(logs)
    if len(logs) == 1:
        return Estimate(exp(mean))
    half = student_quantile(len(logs) - 1, CONFIDENCE) * stdev(logs) / sqrt(len(logs))
    return Estimate(exp(mean), exp(mean - half), exp(mean + half))


def of_rounds(ratios: Sequence[float]) -> Estimate:
    """The median of the rounds, with the same interval: what one odd round cannot move far."""
    return replace(estimate(ratios), ratio=median(ratios))
