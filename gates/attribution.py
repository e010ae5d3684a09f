"""Which flag did it: each flag's own effect, the others held still.

Flags are assigned independently, so treatment and control of one flag carry the same mix of all
others. Within strata, the settings of the other flags, even a mix that differs by chance, or by
a mistake in assignment, cannot put one flag's errors on another.

The odds ratio over strata is that of Mantel and Haenszel (1959), its interval from the variance
of Robins, Breslow and Greenland (Biometrics 42, 1986).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import exp, inf, log, sqrt
from typing import Final

import numpy as np

from engine.core.flags import FLAGS, FlagSet, flag_set_name
from gates.eprocess import ODDS_OF_ERRORS, log_mean, shares, two_sample
from gates.groups import Counts

#: A flag is named only on evidence that an innocent one shows with this probability at most:
#: half of the 2 % that may be named wrongly, the other half being for what the model leaves out.
ALPHA_NAMED: Final = 0.01

#: Standard deviations of a two-sided interval at 95 %.
_Z: Final = 1.96

#: Bad requests in each of the two halves that an interaction compares; fewer say nothing.
_LEAST_OF_A_PAIR: Final = 5


@dataclass(frozen=True, slots=True)
class Effect:
    """The odds of a bad request with some flags on, over those with them off."""

    flags: FlagSet
    ratio: float
    low: float
    high: float
    log_evidence: float = 0.0  #: that the odds are raised; of single flags

    def __str__(self) -> str:
        name = flag_set_name(self.flags)
        return f"{name}: odds x{self.ratio:.3g} (95 % interval {self.low:.3g}-{self.high:.3g})"


@dataclass(frozen=True, slots=True)
class Blame:
    """Who did it; nobody is named where it cannot be told."""

    guilty: FlagSet
    reason: str


def effects(cells: Mapping[FlagSet, Counts]) -> tuple[Effect, ...]:
    """Each flag's own effect, then those pairs whose flags are worse together than each alone."""
    single = (_effect(flag, cells) for flag in FLAGS)
    pairs = (_together(pair, cells) for pair in combinations(FLAGS, 2))
    return tuple(effect for effect in (*single, *pairs) if effect is not None)


def blame(suspects: Iterable[str], cells: Mapping[FlagSet, Counts]) -> Blame:
    """Name the guilty among flags whose treatment was each found worse than its control."""
    found = {flag: _effect(flag, cells) for flag in suspects}
    guilty = frozenset(
        flag
        for flag, effect in found.items()
        if effect and effect.log_evidence >= -log(ALPHA_NAMED)
    )
    known = "; ".join(str(effect) for effect in found.values() if effect) or "no requests"
    if not guilty:
        return Blame(guilty, f"cannot tell which flag it is ({known})")
    pairs = (_together(pair, cells) for pair in combinations(sorted(guilty), 2))
    together = "; ".join(str(pair) for pair in pairs if pair and pair.low > 1)
    names = " and ".join(flag for flag in FLAGS if flag in guilty)
    return Blame(guilty, f"{names} ({known}{'; together ' + together if together else ''})")


@dataclass(frozen=True, slots=True)
class _Stratum:
    """One setting of the other flags: bad and good with the flag on, bad and good with it off."""

    on: Counts
    off: Counts


def _strata(flag: str, cells: Mapping[FlagSet, Counts]) -> Iterator[_Stratum]:
    for others in sorted({flags - {flag} for flags in cells}, key=flag_set_name):
        on, off = cells.get(others | {flag}), cells.get(others)
        if on and off and on.n and off.n:
            yield _Stratum(on, off)


def _effect(flag: str, cells: Mapping[FlagSet, Counts]) -> Effect | None:
    strata = list(_strata(flag, cells))
    if not strata:
        return None
    ratio, deviation = _mantel_haenszel(strata)
    low, high = _ends(ratio, deviation)
    return Effect(frozenset({flag}), ratio, low, high, _evidence(strata))


def _evidence(strata: list[_Stratum]) -> float:
    on = np.array([(s.on.n, s.on.bad) for s in strata], dtype=np.float64)
    off = np.array([(s.off.n, s.off.bad) for s in strata], dtype=np.float64)
    share = shares(on[:, 0], off[:, 0])
    terms = two_sample(on[:, 1], off[:, 1], share, np.array(ODDS_OF_ERRORS)).sum(axis=0)
    return float(log_mean(terms))


def _mantel_haenszel(strata: list[_Stratum]) -> tuple[float, float]:
    """The common odds ratio, and the standard deviation of its logarithm."""
    a, c = (np.array([float(x) for x in bads]) for bads in _bads(strata))
    b = np.array([float(s.on.n - s.on.bad) for s in strata])
    d = np.array([float(s.off.n - s.off.bad) for s in strata])
    n = a + b + c + d
    r, s = a * d / n, b * c / n
    p, q = (a + d) / n, (b + c) / n
    top, bottom = r.sum(), s.sum()
    if not top or not bottom:
        return (inf if top else 1.0 if not bottom else 0.0), inf
    variance = (
        (p * r).sum() / (2 * top**2)
        + (p * s + q * r).sum() / (2 * top * bottom)
        + (q * s).sum() / (2 * bottom**2)
    )
    return float(top / bottom), sqrt(float(variance))


def _bads(strata: list[_Stratum]) -> tuple[list[int], list[int]]:
    return [s.on.bad for s in strata], [s.off.bad for s in strata]


def _ends(ratio: float, deviation: float) -> tuple[float, float]:
    if deviation == inf:
        return 0.0, inf
    return ratio * exp(-_Z * deviation), ratio * exp(_Z * deviation)


def _together(pair: tuple[str, str], cells: Mapping[FlagSet, Counts]) -> Effect | None:
    """How much more one flag does where the other is on; None where there is too little."""
    one, other = pair
    halves = []
    for on in (True, False):
        half = {flags: counts for flags, counts in cells.items() if (other in flags) is on}
        strata = list(_strata(one, half))
        if min((sum(bads) for bads in _bads(strata)), default=0) < _LEAST_OF_A_PAIR:
            return None
        halves.append(_mantel_haenszel(strata))
    (with_it, first), (without, second) = halves
    low, high = _ends(with_it / without, sqrt(first**2 + second**2))
    return Effect(frozenset(pair), with_it / without, low, high)
