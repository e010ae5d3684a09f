"""How much more counts vary than coins would: the design effect.

Times of one arm go up and down together, so their counts scatter more than independent
requests. Evidence is divided by the design effect: the variance of block residuals over that
of independent requests, times (1 + r) / (1 - r) for the correlation r of neighbouring blocks
(Kish, 1965; Bartlett, 1946). The residuals are centred by the effect estimated so far, so that
a steady difference between the arms does not count as scatter.

Noise of a host outlasts a minute and hides behind the coins of single minutes, so long blocks are
looked at beside short ones and the larger effect holds. Few blocks say little: short ones are
averaged with the effect that an A/A run gave, long ones with that of the short.

Each minute gets what was known before it, so that what is tempered cannot choose its own effect.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from gates.eprocess import Array
from gates.mixture import MOST_ALIKE

#: Requests of the treatment in a short block: some bad ones in each even at 5 %. A long one is
#: eight times that: noise with a correlation of 0.8 from minute to minute has decayed by then.
BLOCKS: Final = (60, 480)

#: What was known before weighs as much as so many blocks, whose variance is known to a factor
#: of two only.
PRIOR_BLOCKS: Final = 10

#: Never less, even where a calm stretch happens to scatter little.
FLOOR: Final = 1.2

#: uu, uv, vv; the same with the block before; sums of u and v; the number of blocks.
_MOMENTS: Final = 9


@dataclass(slots=True)
class Dispersion:
    """The design effect of one count, as the minutes come in."""

    start: float  #: from an A/A run
    binomial: bool  #: v counts trials whose rate is estimated; else v is the variance itself
    treated: float = 0.0
    total: Array = field(default_factory=lambda: np.zeros(2))  #: sums of u and v
    scales: tuple["_Scale", ...] = field(default_factory=lambda: tuple(map(_Scale, BLOCKS)))

    def fold(self, n: Array, u: Array, v: Array) -> Array:
        """Add minutes; the design effect of each, as known before it.

        Args:
            n: requests of the treatment, by which blocks are cut.
            u: bad ones, or (not binomial) bad ones less those expected.
            v: trials, or the variance of u for independent requests.
        """
        passed = np.cumsum(np.concatenate(([self.treated], n)))
        totals = np.cumsum(np.vstack((self.total, np.column_stack((u, v)))), axis=0)
        self.treated, self.total = float(passed[-1]), totals[-1]
        effect = largest = np.full(len(n), self.start)
        for scale in self.scales:
            seen, blocks = scale.fold(passed, totals, binomial=self.binomial)
            effect = (PRIOR_BLOCKS * effect + blocks * seen) / (PRIOR_BLOCKS + blocks)
            largest = effect if scale is self.scales[0] else np.maximum(largest, effect)
        floored: Array = np.maximum(largest, FLOOR)
        return floored


@dataclass(slots=True)
class _Scale:
    """Blocks of one length."""

    length: int
    seen: float = 1.0  #: the effect by the blocks so far
    closed: Array = field(default_factory=lambda: np.zeros(2))  #: sums when a block closed last
    last: Array = field(default_factory=lambda: np.zeros(2))  #: u and v of the last whole block
    moments: Array = field(default_factory=lambda: np.zeros(_MOMENTS))

    def fold(self, passed: Array, totals: Array, *, binomial: bool) -> tuple[Array, Array]:
        """Add minutes, whose sums before and after each are given.

        Returns:
            the effect and the number of whole blocks behind it, as known before each minute.
        """
        minutes = len(passed) - 1
        if passed[0] // self.length == passed[-1] // self.length:
            return np.full(minutes, self.seen), np.full(minutes, self.moments[-1])
        closes = np.flatnonzero(np.diff(passed // self.length))
        before = (self.seen, self.moments[-1])
        known = self._close(totals[closes + 1])
        # A block that closes with a minute is known from the next one on.
        lengths = np.diff(closes + 1, prepend=0, append=minutes)
        seen = np.concatenate(([before[0]], _effects(known, binomial)))
        blocks = np.concatenate(([before[1]], known[:, -1]))
        self.seen = float(seen[-1])
        return np.repeat(seen, lengths), np.repeat(blocks, lengths)

    def _close(self, totals: Array) -> Array:
        """Take whole blocks in; the moments after each of them."""
        blocks = np.diff(totals, axis=0, prepend=self.closed[None])
        (u, v), (earlier_u, earlier_v) = blocks.T, np.vstack((self.last, blocks))[:-1].T
        new = (u * u, u * v, v * v, u * earlier_u, u * earlier_v + v * earlier_u, v * earlier_v)
        rows = np.column_stack((*new, u, v, np.ones_like(u)))
        moments = np.cumsum(np.vstack((self.moments, rows)), axis=0)
        self.closed, self.last, self.moments = totals[-1], blocks[-1], moments[-1]
        return moments[1:]


def _effects(moments: Array, binomial: bool) -> Array:
    """The design effect at some states of knowledge, one a row; 1 where nothing happened."""
    uu, uv, vv, lag_uu, lag_uv, lag_vv, u, v, _ = moments.T
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = u / v
        scatter = uu - 2 * rate * uv + rate * rate * vv
        lagged = lag_uu - rate * lag_uv + rate * rate * lag_vv
        expected = v * rate * (1 - rate) if binomial else v
        related = np.nan_to_num(np.clip(lagged / scatter, 0, MOST_ALIKE))
        effects = scatter / expected * (1 + related) / (1 - related)
    return np.where(np.isfinite(effects), effects, 1.0)
