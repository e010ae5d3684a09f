"""How much more counts vary than coins would: the design effect.

Times of one arm go up and down together, so their counts scatter more than independent
requests. Evidence is divided by the design effect: the variance of block residuals over that
of independent requests, times (1 + r) / (1 - r) for the correlation r of neighbouring blocks
(Kish, 1965; Bartlett, 1946). The residuals are centred by the effect estimated so far, so that
a steady difference between the arms does not count as scatter.

A design effect is only ever read at the start of an hour, from whole blocks before it, so
that what it tempers cannot choose it.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from gates.eprocess import Array, Numbers

#: Requests of the treatment in a block: some bad ones in each even at 5 %.
BLOCK: Final = 60

#: Fewer blocks than this tell nothing: their variance is known to a factor of two only.
LEAST_BLOCKS: Final = 10

#: Never less, even where a calm stretch happens to scatter little.
FLOOR: Final = 1.2

#: The correlation is estimated too; beyond this the factor would be all noise.
_MOST_CORRELATED: Final = 0.8

#: uu, uv, vv; the same with the block before; sums of u and v; the number of blocks.
_MOMENTS: Final = 9


@dataclass(slots=True)
class Dispersion:
    """The design effect of one count, as the minutes come in."""

    start: float  #: before enough blocks: from an A/A run
    binomial: bool  #: v counts trials whose rate is estimated; else v is the variance itself
    hour: int = -1
    effect: float = 0.0  #: that of the hour
    treated: float = 0.0
    total: Array = field(default_factory=lambda: np.zeros(2))  #: sums of u and v
    closed: Array = field(default_factory=lambda: np.zeros(2))  #: those when a block closed last
    last: Array = field(default_factory=lambda: np.zeros(2))  #: u and v of the last whole block
    moments: Array = field(default_factory=lambda: np.zeros(_MOMENTS))

    def fold(self, hours: Numbers, n: Array, u: Array, v: Array) -> Array:
        """Add minutes; the design effect of each, as known at the start of its hour.

        Args:
            hours: since the stage's start, of each minute, never falling.
            n: requests of the treatment, by which blocks are cut.
            u: bad ones, or (not binomial) bad ones less those expected.
            v: trials, or the variance of u for independent requests.
        """
        passed = np.cumsum(np.concatenate(([self.treated], n)))
        totals = np.cumsum(np.vstack((self.total, np.column_stack((u, v)))), axis=0)
        closes = np.flatnonzero(np.diff(passed // BLOCK))
        moments = self._close(totals[closes + 1])
        self.treated, self.total = float(passed[-1]), totals[-1]
        if hours[-1] == self.hour:
            return np.full(len(hours), self.effect)
        starts = np.flatnonzero(np.diff(hours, prepend=self.hour))
        known = moments[np.searchsorted(closes, starts)]
        effects = np.concatenate(([self.effect], _effects(known, self.start, self.binomial)))
        self.hour, self.effect = int(hours[-1]), float(effects[-1])
        return np.repeat(effects, np.diff(starts, prepend=0, append=len(hours)))

    def _close(self, totals: Array) -> Array:
        """Take whole blocks in; the moments before the first and after each of them."""
        if not len(totals):
            return self.moments[None]
        blocks = np.diff(totals, axis=0, prepend=self.closed[None])
        (u, v), (earlier_u, earlier_v) = blocks.T, np.vstack((self.last, blocks))[:-1].T
        new = (u * u, u * v, v * v, u * earlier_u, u * earlier_v + v * earlier_u, v * earlier_v)
        rows = np.column_stack((*new, u, v, np.ones_like(u)))
        moments = np.cumsum(np.vstack((self.moments, rows)), axis=0)
        self.closed, self.last, self.moments = totals[-1], blocks[-1], moments[-1]
        return moments


def _effects(moments: Array, start: float, binomial: bool) -> Array:
    """The design effect at some states of knowledge, one a row."""
    uu, uv, vv, lag_uu, lag_uv, lag_vv, u, v, blocks = moments.T
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = u / v
        scatter = uu - 2 * rate * uv + rate * rate * vv
        lagged = lag_uu - rate * lag_uv + rate * rate * lag_vv
        expected = v * rate * (1 - rate) if binomial else v
        related = np.clip(lagged / scatter, 0, _MOST_CORRELATED)
        effects = scatter / expected * (1 + related) / (1 - related)
    known = (blocks >= LEAST_BLOCKS) & np.isfinite(effects)
    return np.where(known, np.maximum(effects, FLOOR), start)
