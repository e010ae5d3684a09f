"""Exact one-sided bounds for rates and quantiles, from integers.

Methods: Clopper and Pearson (Biometrika 26, 1934) for a rate; Fisher's exact test for two
rates; order statistics for a quantile (David and Nagaraja, Order Statistics, section 7.1).
Every `confidence` is that of one bound alone. Everything rests on the binomial tail, which
is a regularised incomplete beta function.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, exp, inf, lgamma, log, log1p, sqrt
from statistics import NormalDist
from typing import Final

#: Relative accuracy of the continued fraction; a tail is then right to about 12 digits.
_EPSILON: Final = 1e-15
#: The fraction converges in about sqrt(n) steps: this serves far beyond 10^8 requests.
_MOST_STEPS: Final = 100_000
#: Bisection steps: a bound is known to 2^-60.
_STEPS: Final = 60
#: A bound is known to this share of itself: more digits than are stated.
_CLOSE: Final = 1e-10
#: No answer is sought beyond this many further requests.
_MOST_NEEDED: Final = 10**9


@dataclass(frozen=True, slots=True)
class Interval:
    """Two one-sided bounds. An end that these samples cannot give is infinite."""

    low: float
    high: float


def at_most(bad: int, n: int, rate: float) -> float:
    """P(X <= bad) for X binomial with n trials at a rate."""
    _check(bad, n)
    if bad >= n or rate <= 0:
        return 1.0
    if rate >= 1:
        return 0.0
    return _beta(1 - rate, n - bad, bad + 1)


def at_least(bad: int, n: int, rate: float) -> float:
    """P(X >= bad) for X binomial with n trials at a rate."""
    _check(bad, n)
    if bad <= 0 or rate >= 1:
        return 1.0
    if rate <= 0:
        return 0.0
    return _beta(rate, bad, n - bad + 1)


def rate_interval(bad: int, n: int, confidence: float) -> Interval:
    """The rates that `bad` of `n` does not contradict; all of them for no trial."""
    if n == 0:
        return Interval(0.0, 1.0)
    alpha = 1 - confidence
    low = _lowest_rate(bad, n, alpha) if bad else 0.0
    high = 1 - _lowest_rate(n - bad, n, alpha) if bad < n else 1.0
    return Interval(low, high)


def surely_below(bad: int, n: int, limit: float, confidence: float) -> bool:
    """Whether the rate is at most the limit, with confidence."""
    return n > 0 and at_most(bad, n, limit) <= 1 - confidence


def surely_above(bad: int, n: int, limit: float, confidence: float) -> bool:
    """Whether the rate is over the limit, with confidence."""
    return n > 0 and at_least(bad, n, limit) <= 1 - confidence


def clean_needed(bad: int, n: int, limit: float, confidence: float) -> int | None:
    """How many further requests without a bad one would show the rate to be at most the limit.

    None when more than a thousand million would be needed.
    """
    if surely_below(bad, n, limit, confidence):
        return 0
    if not surely_below(bad, n + _MOST_NEEDED, limit, confidence):
        return None
    few, many = 0, _MOST_NEEDED
    while many - few > 1:
        middle = (few + many) // 2
        enough = surely_below(bad, n + middle, limit, confidence)
        few, many = (few, middle) if enough else (middle, many)
    return many


def chance_of_excess(bad: int, n: int, control_bad: int, control_n: int) -> float:
    """Fisher's one-sided p-value: equal rates would give treatment this many bad, or more."""
    _check(bad, n)
    _check(control_bad, control_n)
    total, everyone = bad + control_bad, n + control_n
    whole = _log_choose(everyone, total)
    terms = (
        exp(_log_choose(n, k) + _log_choose(control_n, total - k) - whole)
        for k in range(max(bad, total - control_n), min(n, total) + 1)
    )
    return min(1.0, sum(terms))


def quantile(times: Sequence[float], share: float) -> float:
    """The smallest time that at least this share of the times does not exceed.

    Raises:
        ValueError: for no times.
    """
    if not times:
        raise ValueError("a quantile of no times")
    return sorted(times)[max(1, ceil(share * len(times) - 1e-9)) - 1]


def quantile_interval(times: Sequence[float], share: float, confidence: float) -> Interval:
    """Order statistics around a quantile, free of any assumption on the distribution."""
    ranked, n = sorted(times), len(times)
    ranks = range(n)
    below = bisect_left(ranks, x=True, key=lambda rank: at_least(rank + 1, n, share) < confidence)
    above = bisect_left(ranks, x=True, key=lambda rank: at_most(rank, n, share) >= confidence)
    return Interval(ranked[below - 1] if below else -inf, ranked[above] if above < n else inf)


def student_quantile(degrees: int, confidence: float) -> float:
    """How many standard errors a mean's two-sided interval reaches, with Student's distribution.

    Args:
        degrees: of freedom, one less than there are values; 1 or more.
        confidence: of the interval, such as 0.95.
    """
    # Beyond t lies the incomplete beta function at degrees / (degrees + t^2).
    place = _crossing(lambda x: _beta(x, degrees / 2, 0.5) >= 1 - confidence)
    return sqrt(degrees * (1 - place) / place)


def samples_for_quantile(share: float, confidence: float) -> int:
    """The least number of samples at which a quantile has an upper bound: 59 for P95 at 95 %."""
    return ceil(log1p(-confidence) / log(share))


def _check(bad: int, n: int) -> None:
    if not 0 <= bad <= n:
        raise ValueError(f"{bad} of {n} is not a count")


def _crossing(beyond: Callable[[float], bool]) -> float:
    """The rate at which a predicate that is monotone in the rate turns true."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if beyond(middle) else (middle, high)
    return high


def _lowest_rate(bad: int, n: int, alpha: float) -> float:
    """The rate at which so many bad ones, or more, have a probability of alpha.

    By Newton's method on logarithms, between which the tail is nearly a line: a month of a busy
    fleet has millions of requests, each tail takes its time then, and five of them do where
    bisection needs sixty. A tail is log-concave, so no step goes beyond the root twice.
    """
    share = bad / n
    usual = share - NormalDist().inv_cdf(1 - alpha) * sqrt(share * (1 - share) / n)
    rate = usual if 0 < usual < 1 else share * alpha
    front = lgamma(n + 1) - lgamma(bad) - lgamma(n - bad + 1)
    for _ in range(_STEPS):
        tail = at_least(bad, n, rate)
        if tail <= 0:
            rate = (rate + share) / 2
            continue
        rest = (n - bad) * log1p(-rate) if bad < n else 0.0
        slope = exp(front + bad * log(rate) + rest - log(tail))
        step = log(alpha / tail) / slope
        rate = min(rate * exp(step), (rate + 1) / 2)
        if abs(step) < _CLOSE:
            break
    return rate


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, on the side where the fraction converges."""
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(1 - x, b, a)
    front = lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)
    return exp(front) * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    """Lentz's evaluation of the continued fraction of the incomplete beta function."""
    tiny = 1e-300  # keeps a vanishing denominator from dividing by zero
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    value = d
    for m in range(1, _MOST_STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        step = 1.0
        for coefficient in (even, odd):
            d = 1 / ((1 + coefficient * d) or tiny)
            c = (1 + coefficient / c) or tiny
            step = c * d
            value *= step
        if abs(step - 1) < _EPSILON:
            return value
    raise ArithmeticError(f"the beta fraction did not converge at x={x}, a={a}, b={b}")
