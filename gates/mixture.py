"""What betting on the sign of symmetric observations has won: a closed form.

For a symmetric x, E exp(a x - a^2 x^2 / 2) <= 1 for every a (de la Pena, Annals of
Probability 27, 1999); the a are weighed by half a normal density (de la Pena, Lai and Shao,
Self-Normalized Processes, chapter 11).
"""

from math import erfc, log, pi, sqrt
from typing import Final

#: Log ratios count up to 15 %: that a pair is ten times as fast says no more than that, and a
#: pause of the machine decides nothing. Clipping keeps symmetry.
CLIP: Final = 0.15

#: The weight of the alternatives: as of eight pairs that scatter by 6 %, as they do on a shared
#: machine. Another spread costs pairs, never validity.
WEIGHT: Final = 8 * 0.06**2

#: More correlation of neighbours than this is not believed: it would be all noise.
MOST_ALIKE: Final = 0.8

#: Beyond this many standard deviations the tail is taken from its expansion.
_FAR: Final = 30.0


def log_evidence(total: float, squares: float, weight: float = WEIGHT) -> float:
    """The logarithm of the evidence that observations lie above zero.

    Args:
        total: their sum.
        squares: the sum of their squares, inflated where neighbours resemble each other.
        weight: of the alternatives.
    """
    spread = squares + weight
    z = total / sqrt(spread)
    return log(2) + 0.5 * log(weight / spread) + z * z / 2 + _log_normal(z)


def inflation(alike: float) -> float:
    """How much a sum scatters beyond that of independent observations, by their correlation."""
    alike = min(max(alike, 0.0), MOST_ALIKE)
    return (1 + alike) / (1 - alike)


def _log_normal(z: float) -> float:
    """The logarithm of the normal distribution function, also far to the left."""
    if z < -_FAR:  # Mills' ratio; erfc would vanish
        return -z * z / 2 - log(-z) - 0.5 * log(2 * pi)
    return log(erfc(-z / sqrt(2)) / 2)
