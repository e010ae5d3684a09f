"""Rates that change over time, and the arrivals that follow them: pure and seeded.

A curve is a row of legs on each of which the rate goes in a straight line. Its integral
counts the requests due until a moment; turning it round gives the moment of each request.
Unit arrivals (even, Poisson or gamma) turned round so have the curve as their rate.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, repeat, takewhile
from math import isfinite, sqrt
from random import Random
from typing import Final, Literal, get_args

#: How requests are spaced: evenly, as independent users (`poisson`), or in `gamma` gaps.
Spacing = Literal["even", "poisson", "gamma"]
SPACINGS: Final[tuple[Spacing, ...]] = get_args(Spacing)


@dataclass(frozen=True, slots=True)
class Leg:
    """So many seconds in which the rate goes straight from `start` to `end` (per second)."""

    seconds: float
    start: float
    end: float

    @property
    def requests(self) -> float:
        """Requests due in it, on average."""
        return (self.start + self.end) / 2 * self.seconds

    def moment(self, due: float) -> float:
        """Seconds into the leg at which so many requests are due."""
        slope = (self.end - self.start) / self.seconds
        # The stable form of the root: it also holds where the slope is next to nothing.
        root = sqrt(max(0.0, self.start * self.start + 2 * slope * due))
        speed = self.start + root
        return min(self.seconds, 2 * due / speed) if speed > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A load over time.

    `shape` is that of `gamma` gaps: 1 is Poisson, below 1 comes in bursts, above is more even.

    Raises:
        ValueError: for legs that no request could follow; the message says which.
    """

    legs: tuple[Leg, ...]
    spacing: Spacing = "poisson"
    shape: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot be followed."""
        for number, leg in enumerate(self.legs):
            rates = (leg.start, leg.end)
            if not (isfinite(leg.seconds) and leg.seconds > 0):
                raise ValueError(f"leg {number}: {leg.seconds} s; allowed: more than zero")
            if not all(isfinite(rate) and rate >= 0 for rate in rates):
                raise ValueError(f"leg {number}: rates {rates}; allowed: zero or more per second")
        if not self.requests > 0:
            raise ValueError("curve: no request is ever due")
        if self.spacing not in SPACINGS:
            raise ValueError(f"spacing {self.spacing!r}; allowed: {', '.join(SPACINGS)}")
        if not (isfinite(self.shape) and self.shape > 0):
            raise ValueError(f"shape {self.shape}; allowed: more than zero")

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return sum(leg.seconds for leg in self.legs)

    @property
    def requests(self) -> float:
        """Requests due over the whole curve, on average."""
        return sum(leg.requests for leg in self.legs)

    @property
    def peak(self) -> float:
        """Its highest rate, per second."""
        return max(max(leg.start, leg.end) for leg in self.legs)

    def rate(self, at: float) -> float:
        """The rate at a moment, per second; 0 outside the curve."""
        for leg in self.legs:
            if 0 <= at <= leg.seconds:
                return leg.start + (leg.end - leg.start) * at / leg.seconds
            at -= leg.seconds
        return 0.0

    def arrivals(self, seed: int) -> tuple[float, ...]:
        """When requests are due: seconds from the start, rising, all within the curve."""
        return tuple(self._moments(seed))

    def scaled(self, time: float) -> "Curve":
        """The same rates in `time` times the seconds."""
        legs = tuple(Leg(leg.seconds * time, leg.start, leg.end) for leg in self.legs)
        return Curve(legs=legs, spacing=self.spacing, shape=self.shape)

    def _moments(self, seed: int) -> Iterator[float]:
        begin = passed = 0.0
        legs = iter(self.legs)
        leg = next(legs)
        total = self.requests
        for due in takewhile(lambda due: due < total, self._unit(seed)):
            while due > passed + leg.requests:
                begin, passed = begin + leg.seconds, passed + leg.requests
                following = next(legs, None)
                if following is None:  # the last digit of a sum: nothing is due beyond the end
                    return
                leg = following
            yield begin + leg.moment(due - passed)

    def _unit(self, seed: int) -> Iterator[float]:
        """Arrivals of rate 1 without end."""
        if self.spacing == "even":
            return accumulate(repeat(1.0), initial=0.5)
        random = Random(seed)  # noqa: S311 - reproducible traffic, not a secret
        shape = self.shape if self.spacing == "gamma" else 1.0
        gaps = (random.gammavariate(shape, 1 / shape) for _ in repeat(None))
        return accumulate(gaps)


def constant(rate: float, seconds: float, spacing: Spacing = "poisson", shape: float = 1) -> Curve:
    """One rate all the time; over hours it is a soak."""
    return Curve(legs=(Leg(seconds, rate, rate),), spacing=spacing, shape=shape)


def ramp(start: float, end: float, seconds: float, spacing: Spacing = "poisson") -> Curve:
    """A rate that grows, or falls, in a straight line."""
    return Curve(legs=(Leg(seconds, start, end),), spacing=spacing)


def spike(peak: float, seconds: float, base: float = 0, spacing: Spacing = "poisson") -> Curve:
    """From the base to the peak in half of the time, and back in the other."""
    half = seconds / 2
    return Curve(legs=(Leg(half, base, peak), Leg(half, peak, base)), spacing=spacing)


def steps(first: float, by: float, count: int, seconds: float) -> tuple[Curve, ...]:
    """One curve for each step: so many seconds at `first`, `first + by`, ... per second.

    Raises:
        ValueError: for no step, or a rate that is not positive.
    """
    if count < 1:
        raise ValueError(f"steps: count {count}; allowed: 1 or more")
    return tuple(constant(first + number * by, seconds) for number in range(count))
