"""When requests are due: arrivals as seconds from the start, drawn before the run starts.

Here a given number at one rate; `curves` has rates that change, over a given time. Pure and
seeded: the same arguments give the same arrivals, on every machine.
"""

from collections.abc import Callable
from itertools import accumulate
from math import isfinite
from random import Random
from typing import Final

#: Shape of gamma gaps unless another is asked: they deviate twice as much as Poisson ones.
BURSTY: Final = 0.25


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


def gamma(rate: float, count: int, seed: int, shape: float = BURSTY) -> tuple[float, ...]:
    """Arrivals in bursts or evened out: distances drawn from a gamma distribution.

    Args:
        rate: requests per second, on average.
        count: how many arrivals.
        seed: of the draw.
        shape: 1 is Poisson; below 1 comes in bursts, above 1 is more even.

    Raises:
        ValueError: for a rate or shape that is not positive and finite, or a negative count.
    """
    _check(rate, count)
    if not (isfinite(shape) and shape > 0):
        raise ValueError(f"shape {shape}; allowed: more than zero")
    random = Random(seed)  # noqa: S311 - reproducible traffic, not a secret
    return tuple(accumulate(random.gammavariate(shape, 1 / shape / rate) for _ in range(count)))


#: The schedules by name.
SCHEDULES: Final[dict[str, Callable[[float, int, int], tuple[float, ...]]]] = {
    "constant": constant,
    "poisson": poisson,
    "gamma": gamma,
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
