"""Evidence from paired blocks or rounds: a clipped, self-normalised test.

Where a whole block has one arm, or a round measures one number for each arm, a pair gives
one observation: the logarithm of a ratio less that of the ratio demanded. At the boundary it
is as likely to fall on one side as on the other, and nothing more is supposed of it
(`gates.mixture`).

Clipping keeps single outliers from deciding, and keeps symmetry. Neighbouring pairs are
related; the sum of squares is multiplied by (1 + r) / (1 - r).
"""

from dataclasses import dataclass, field
from math import log
from typing import Final

import numpy as np

from gates.eprocess import Array
from gates.mixture import CLIP, WEIGHT, inflation, log_evidence

#: Observations that differ by less than this share of themselves are all alike.
_ALIKE: Final = 1e-9


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


def log_evidence_above(sums: Sums, weight: float = WEIGHT) -> float:
    """The logarithm of the evidence that the observations lie above zero."""
    return log_evidence(sums.total, sums.squares * _inflation(sums), weight)


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
    return inflation(related)
