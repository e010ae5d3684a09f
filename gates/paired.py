"""The ratio of two quantiles from an interleaved run, with an exact paired interval.

Both arms answer the same request right after one another, so a noisy neighbour hits both
alike. If the treatment were exactly `r` times as slow, dividing its times by `r` would make
the two of a pair exchangeable: each could as well carry the other's label. The test flips
the labels of random pairs and asks how often chance alone gives a difference of quantiles
like the one observed; the interval holds every `r` that this test does not reject.

Order statistics of each arm alone would be exact too, but they ignore the pairing: on a
machine with neighbours they accept a healthy engine in 1 of 10 runs of 100 pairs, this test
in 9 of 10, both accepting one at the margin in at most 1 of 20.

Method: Fisher's randomisation test for paired data, inverted to an interval under a scale
alternative (Lehmann and Romano, Testing Statistical Hypotheses, 2022, chapters 5 and 17).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, exp, inf, isfinite, log
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Random relabellings besides the observed one; the smallest p-value is then 1/2,000.
RELABELLINGS: Final = 1_999
#: Relabellings are drawn from this seed, so that the same evidence gives the same bytes.
SEED: Final = 20_250_108
#: Ratios are sought within this factor of the estimate; beyond it the interval is open.
WIDEST: Final = 8.0
#: Bisection steps: the ends are then known to one part in two thousand.
STEPS: Final = 12


@dataclass(frozen=True, slots=True)
class RatioEstimate:
    """Treatment over control, and the interval that holds the true ratio; ends may be infinite."""

    estimate: float
    low: float
    high: float
    pairs: int


def ratio_of_quantiles(
    treatment: Sequence[float], control: Sequence[float], quantile: float, confidence: float
) -> RatioEstimate:
    """Compare a quantile of two arms measured in pairs.

    Args:
        treatment: positive, finite times of the treatment, in the order of their pairs.
        control: the control's time of each pair.
        quantile: between 0 and 1, such as 0.95.
        confidence: of each one-sided bound, such as 0.95: the interval is two-sided at 0.90.

    Raises:
        ValueError: arms of different length, no pair, or a time that is not positive and finite.
    """
    _check(treatment, control)
    top = ceil(quantile * len(treatment)) - 1
    a, b = np.log(np.asarray(treatment)), np.log(np.asarray(control))
    flips = np.random.default_rng(SEED).random((RELABELLINGS, len(a))) < 0.5  # noqa: PLR2004 - a fair coin
    centre = float(np.sort(a)[top] - np.sort(b)[top])

    def rejected(sign: int, step: float) -> bool:
        """Whether a ratio one `step` above (`sign` 1) or below (-1) the estimate is refuted."""
        excess = sign * _excess(a - (centre + sign * step), b, flips, top)
        chance = (1 + int(np.sum(excess <= 0))) / (RELABELLINGS + 1)
        return chance <= 1 - confidence

    high = _bound(partial(rejected, 1))
    low = _bound(partial(rejected, -1))
    return RatioEstimate(exp(centre), exp(centre - low), exp(centre + high), len(a))


def further_pairs(pairs: int, wide: float, room: float) -> int | None:
    """About how many further pairs would tell: an interval narrows with the root of their number.

    Args:
        pairs: that there are.
        wide: factor between the estimate and the bound that has to pass the margin; may be inf.
        room: factor between the estimate and the margin, above 1 on the margin's good side.

    Returns:
        None where more of the same will not help, or nothing is known of the bound.
    """
    if room <= 1 or not isfinite(wide):
        return None
    return int(pairs * ((log(wide) / log(room)) ** 2 - 1)) + 1


def _check(treatment: Sequence[float], control: Sequence[float]) -> None:
    if len(treatment) != len(control):
        raise ValueError(f"{len(treatment)} treatment times but {len(control)} control times")
    if not treatment:
        raise ValueError("no pairs")
    for time in (*treatment, *control):
        if not (isfinite(time) and time > 0):
            raise ValueError(f"a time must be positive and finite, given {time}")


def _excess(
    a: NDArray[np.float64], b: NDArray[np.float64], flips: NDArray[np.bool_], top: int
) -> NDArray[np.float64]:
    """How far each relabelling's difference of quantiles lies above the observed one."""
    first, second = np.where(flips, b, a), np.where(flips, a, b)
    relabelled = np.partition(first, top)[:, top] - np.partition(second, top)[:, top]
    observed = np.partition(a, top)[top] - np.partition(b, top)[top]
    # What is equal by construction must be equal in floating point as well.
    excess: NDArray[np.float64] = np.round(relabelled - observed, 12)
    return excess


def _bound(rejected: Callable[[float], bool]) -> float:
    """The smallest distance from the estimate, in log units, that the test rejects."""
    near, far = 0.0, log(WIDEST)
    if not rejected(far):
        return inf
    for _ in range(STEPS):
        middle = (near + far) / 2
        near, far = (near, middle) if rejected(middle) else (middle, far)
    return far
