"""When requests are due: arrivals as seconds from the start, drawn before the run starts.

Pure and seeded: the same arguments give the same arrivals, on every machine.
"""

from collections.abc import Callable
from itertools import accumulate
from math import isfinite
from random import Random
from typing import Final


def constant(rate: float, count: int, seed: int = 0) -> tuple[float, ...]:
    """Arrivals at equal distances, the first at 0.

    Args:
        rate: requests per second.
        count: how many arrivals.
        seed: not used; here so that every schedule is called alike.

    Raises:
        ValueError: for a rate that is not positive and finite, or a negative count.
    """
    del seed
    _check(rate, count)
    return tuple(number / rate for number in range(count))


def poisson(rate: float, count: int, seed: int) -> tuple[float, ...]:
    """Arrivals of independent users: distances drawn from an exponential distribution.

    Args:
        rate: requests per second, on average.
        count: how many arrivals.
        seed: of the draw.

    Raises:
        ValueError: for a rate that is not positive and finite, or a negative count.
    """
    _check(rate, count)
    random = Random(seed)  # noqa: S311 - reproducible traffic, not a secret
    return tuple(accumulate(random.expovariate(rate) for _ in range(count)))


#: The schedules by name.
SCHEDULES: Final[dict[str, Callable[[float, int, int], tuple[float, ...]]]] = {
    "constant": constant,
    "poisson": poisson,
}


def arrivals(name: str, *, rate: float, count: int, seed: int) -> tuple[float, ...]:
    """The arrivals of a schedule by its name.

    Raises:
        ValueError: for an unknown name, or what the schedule itself refuses.
    """
    if name not in SCHEDULES:
        raise ValueError(f"schedule {name!r}; allowed: {', '.join(SCHEDULES)}")
    return SCHEDULES[name](rate, count, seed)


def _check(rate: float, count: int) -> None:
    if not (isfinite(rate) and rate > 0):
        raise ValueError(f"rate {rate}; allowed: a positive number of requests per second")
    if count < 0:
        raise ValueError(f"count {count}; allowed: zero or more")
