"""Evidence from paired blocks or rounds: a clipped, self-normalised test.

Where a whole block has one arm, or a round measures one number for each arm, a pair gives
one observation: the logarithm of a ratio less that of the ratio demanded. At the boundary it
is as likely to fall on one side as on the other, and nothing more is supposed of it: for a
symmetric x, E exp(a x - a^2 x^2 / 2) <= 1 for every a (de la Pena, Annals of Probability 27,
1999). The a are weighed by half a normal density, which has a closed form.

Clipping keeps single outliers from deciding, and keeps symmetry. Neighbouring pairs are
related; the sum of squares is multiplied by (1 + r) / (1 - r).
"""

from dataclasses import dataclass, field
from math import erfc, log, sqrt
from typing import Final

import numpy as np

from gates.eprocess import Array

#: Log ratios count up to 15 %: that a pair is ten times as fast says no more than that.
CLIP: Final = 0.15

#: The weight that the alternatives get: as of eight pairs that scatter by 6 %.
_WEIGHT: Final = 8 * 0.06**2

#: The correlation of neighbours is estimated; beyond this it would be all noise.
_MOST_CORRELATED: Final = 0.8

#: Observations that differ by less than this share of themselves are all alike.
_ALIKE: Final = 1e-9

#: Beyond this many standard deviations the tail is taken from its expansion.
_FAR: Final = 30.0


@dataclass(frozen=True, slots=True)
class Sums:
    """What a sequence of observations comes to."""

    pairs: int = 0
    total: float = 0.0
    squares: float = 0.0
    products: float = 0.0  #: of neighbours
    last: float = 0.0

    def plus(self, observation: float, clip: float = CLIP) -> "Sums":
        """With one more observation."""
        x = min(max(observation, -clip), clip)
        return Sums(
            self.pairs + 1,
            self.total + x,
            self.squares + x * x,
            self.products + x * self.last,
            x,
        )


def log_evidence_above(sums: Sums, weight: float = _WEIGHT) -> float:
    """The logarithm of the evidence that the observations lie above zero."""
    spread = sums.squares * _inflation(sums) + weight
    z = sums.total / sqrt(spread)
    return log(2) + 0.5 * log(weight / spread) + z * z / 2 + _log_normal(z)


def log_evidence_of_ratio(ratios: Array, demanded: float) -> Array:
    """The evidence that ratios lie above a demanded one, after each pair.

    Args:
        ratios: positive, in the order in which the pairs were measured.
        demanded: such as 1.3 for "30 % more".

    Raises:
        ValueError: for a ratio that is not positive and finite.
    """
    if not (np.isfinite(ratios) & (ratios > 0)).all():
        raise ValueError("a ratio must be positive and finite")
    sums, logs = Sums(), []
    for observation in np.log(ratios) - log(demanded):
        sums = sums.plus(float(observation))
        logs.append(log_evidence_above(sums))
    return np.asarray(logs)


@dataclass(slots=True)
class RestartedPairs:
    """For a rollback: as `gates.eprocess.Restarted`, over pairs instead of minutes."""

    hours: int
    threshold: float
    hour: int = -1
    running: list[Sums] = field(default_factory=list)

    def fold(self, hour: int, observation: float, clip: float = CLIP) -> bool:
        """Add a pair; tells whether the evidence stands at 1/alpha or over."""
        if hour // self.hours != self.hour // self.hours:
            self.running = []
        if hour != self.hour:
            self.running.append(Sums())
        self.hour = hour
        self.running = [sums.plus(observation, clip) for sums in self.running]
        return self.log >= self.threshold

    @property
    def log(self) -> float:
        """The logarithm of the weighted sum now."""
        if not self.running:
            return 0.0
        logs = np.array([log_evidence_above(sums) for sums in self.running])
        weights = np.full(len(logs), -log(2 * self.hours))
        weights[0] = -log(2)
        return float(np.logaddexp.reduce(logs + weights))


def _inflation(sums: Sums) -> float:
    """How much more a sum of related neighbours scatters than one of independent pairs."""
    centre = sums.total * sums.total / sums.pairs if sums.pairs else 0.0
    around = sums.squares - centre
    related = (sums.products - centre) / around if around > _ALIKE * sums.squares else 0.0
    related = min(max(related, 0.0), _MOST_CORRELATED)
    return (1 + related) / (1 - related)


def _log_normal(z: float) -> float:
    """The logarithm of the normal distribution function, also far to the left."""
    if z < -_FAR:  # Mills' ratio; erfc would vanish
        return -z * z / 2 - log(-z) - 0.5 * log(2 * np.pi)
    return log(erfc(-z / sqrt(2)) / 2)
