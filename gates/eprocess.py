"""Evidence that may be looked at every minute: mixtures of binomial likelihood ratios.

One factor a minute multiplies the evidence; under the hypothesis that is tested its mean is 1
at most, so the evidence ever reaches 1/alpha with probability alpha at most, however often it
is looked at (Ville, 1939). Integers go in: how many requests, how many of them bad.

- one sample against a ceiling: the binomial likelihood ratio (Robbins, 1970);
- two samples at once: given that a bad request happened, its arm is a coin whose bias is the
  arm's share of the traffic (Lindon and Malek, arXiv 2011.03567). What hits both arms alike,
  load, drift or an outage, cancels.

Arrays have one row a minute, and one column for each alternative that is weighed.
"""

from dataclasses import dataclass, field
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gates.planning import BELOW

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]

#: Odds of a bad request in treatment over those in control. Errors may be a hundred times as
#: frequent; a share of slow requests grows by less before somebody would notice anyway.
ODDS_OF_ERRORS: Final = (1.3, 1.7, 2.5, 4.0, 7.0, 12.0, 25.0, 60.0, 150.0)
ODDS_OF_TIMES: Final = (1.12, 1.25, 1.5, 2.0, 3.0, 5.0, 8.0)

#: Rates beyond this are told from it by a handful of requests; none is weighed, unless the
#: ceiling itself is that high.
_HIGHEST: Final = 0.6

#: A skipped stretch stays this far under the threshold, in log units: more than rounding.
_SLACK: Final = 1e-9

#: Minutes that are weighed at once: few enough for the cache, enough to spare the interpreter.
_STRETCH: Final = 60


def rates_above(limit: float, *, of_times: bool) -> Array:
    """The rates over a ceiling that are weighed alike, errors or shares of slow requests."""
    low, high, count = (1.1, 12.0, 10) if of_times else (1.3, 500.0, 14)
    high = min(high, max(_HIGHEST / limit, (1 + 1 / limit) / 2))
    return limit * np.geomspace(min(low, (1 + high) / 2), high, count)


def rates_below(limit: float) -> Array:
    """The rates under a ceiling that are weighed alike; those that planning counts with."""
    return limit * np.asarray(BELOW)


def one_sample(bad: Array, n: Array, limit: float, rates: Array) -> Array:
    """Log likelihood ratios of each rate against the limit, minute by minute."""
    worse, better = np.log(rates / limit), np.log1p(-rates) - log(1 - limit)
    increments: Array = bad[:, None] * worse + (n - bad)[:, None] * better
    return increments


def two_sample(bad: Array, control_bad: Array, share: Array, odds: Array) -> Array:
    """Log likelihood ratios of each odds ratio against 1, minute by minute.

    Args:
        bad: bad requests of the treatment.
        control_bad: those of the control in the same minutes.
        share: of the traffic, that the treatment got: what a bad request's arm would be.
        odds: the alternatives.
    """
    together = (bad + control_bad)[:, None]
    increments: Array = bad[:, None] * np.log(odds) - together * np.log1p(
        share[:, None] * (odds - 1)
    )
    return increments


def tolerant(share: Array, ratio: float) -> Array:
    """The treatment's share of bad requests if its rate were `ratio` times the control's."""
    scaled: Array = share * ratio / (1 + share * (ratio - 1))
    return scaled


def shares(n: Array, control_n: Array) -> Array:
    """The treatment's share of the traffic, 0 in a minute without any."""
    together = n + control_n
    share: Array = np.divide(n, together, out=np.zeros_like(together), where=together > 0)
    return share


def log_mean(terms: Array) -> Array:
    """The logarithm of the mean over the alternatives (the last axis)."""
    top = terms.max(axis=-1)
    mean: Array = top + np.log(np.exp(terms - top[..., None]).mean(axis=-1))
    return mean


@dataclass(slots=True)
class Evidence:
    """For a promotion: one process from the stage's start.

    Each minute's factor is tempered by the design effect known before it.
    """

    totals: Array

    @classmethod
    def over(cls, alternatives: int) -> "Evidence":
        """No evidence yet."""
        return cls(np.zeros(alternatives))

    def fold(self, increments: Array, effect: Array) -> None:
        """Add minutes; `effect` is the design effect of each."""
        self.totals = _running(self.totals, increments / effect[:, None])[-1]

    @property
    def log(self) -> float:
        """The logarithm of the evidence now."""
        return float(log_mean(self.totals))

    @property
    def best(self) -> float:
        """That of the alternative that fits best."""
        return float(self.totals.max())


@dataclass(slots=True)
class Restarted:
    """For a rollback: a process from the stage's start, and one more each hour.

    A single process with a good history is slow to turn. Half of alpha belongs to the first,
    the rest in equal parts to one restart for each hour of the stage; after so many hours the
    budget is renewed and all begin anew. The weighted sum is compared with 1/alpha.

    A restarted process keeps the design effect that was known when it started: a regression
    that comes later cannot inflate it. The first has no past to know one from; it takes the one
    that is known before each minute.
    """

    hours: int
    alternatives: int
    threshold: float  #: log(1/alpha)
    hour: int = -1  #: the last hour that was folded
    totals: Array = field(init=False)
    first: Array = field(init=False)
    starts: Array = field(init=False)
    effects: Array = field(init=False)
    lowest: Array = field(init=False)  #: of the starts, by alternative
    least: float = field(init=False)  #: of the effects

    def __post_init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self.totals = np.zeros(self.alternatives)
        self.first = np.zeros(self.alternatives)
        self.starts = np.zeros((0, self.alternatives))
        self.effects = np.zeros(0)
        self.lowest = np.full(self.alternatives, np.inf)
        self.least = np.inf

    def fold(self, hours: Numbers, increments: Array, effect: Array) -> Flags:
        """Add minutes; tells at which of them the evidence stands at 1/alpha or over.

        Args:
            hours: since the stage's start, of each minute, never falling.
            increments: of each minute and alternative.
            effect: the design effect of each minute, known before it.
        """
        period = int(hours[0]) // self.hours
        if period != self.hour // self.hours:
            self._renew()
        inside = int(np.searchsorted(hours, (period + 1) * self.hours))
        crossed = self._period(hours[:inside], increments[:inside], effect[:inside])
        self.hour = int(hours[inside - 1])
        if inside == len(hours):
            return crossed
        return np.concatenate(
            (crossed, self.fold(hours[inside:], increments[inside:], effect[inside:]))
        )

    def _period(self, hours: Numbers, increments: Array, effect: Array) -> Flags:
        totals = _running(self.totals, increments)
        first = _running(self.first, increments / effect[:, None])
        known, new = len(self.starts), np.zeros(0, dtype=np.int64)
        if hours[-1] != self.hour:
            new = self._begin(hours, totals, effect)
        self.totals, self.first = totals[-1], first[-1]
        if self._far(totals[1:], first[1:]):
            return np.zeros(len(hours), dtype=np.bool_)
        begun = np.concatenate((np.zeros(known, dtype=np.int64), new))
        return self._crossed(totals[1:], first[1:], _Begun(begun, self.starts, self.effects))

    def _begin(self, hours: Numbers, totals: Array, effect: Array) -> Numbers:
        """Start a process with each new hour; the minutes with which they start."""
        # Hour 0 of a period has the first process; every later hour brings another.
        new = np.flatnonzero((np.diff(hours, prepend=self.hour) != 0) & (hours % self.hours != 0))
        if len(new):
            self.starts = np.concatenate((self.starts, totals[new]))
            self.effects = np.concatenate((self.effects, effect[new]))
            self.lowest = np.minimum(self.lowest, totals[new].min(axis=0))
            self.least = min(self.least, float(effect[new].min()))
        return new

    def _far(self, totals: Array, first: Array) -> bool:
        """Whether not even the best restart could have crossed, seen from afar: cheap, and rough.

        The weights sum to 1 at most, so where no process reaches the threshold, no sum does.
        """
        highest = first.max()
        if len(self.starts):
            highest = max(highest, (totals.max(axis=0) - self.lowest).max() / self.least)
        return bool(highest < self.threshold - _SLACK)

    def _crossed(self, totals: Array, first: Array, begun: "_Begun") -> Flags:
        """Where the evidence crosses; whole stretches in which it cannot are skipped.

        Args:
            totals: sums up to and with each minute.
            first: those of the first process.
            begun: the restarted ones.
        """
        length = len(totals)
        if self._bound(totals, first, begun) < self.threshold - _SLACK:
            return np.zeros(length, dtype=np.bool_)
        if length <= _STRETCH:
            return self._logs(totals, first, begun) >= self.threshold
        middle = length // 2
        left = self._crossed(totals[:middle], first[:middle], begun.before(middle))
        right = self._crossed(totals[middle:], first[middle:], begun.since(middle))
        return np.concatenate((left, right))

    def _bound(self, totals: Array, first: Array, begun: "_Begun") -> float:
        """The evidence is nowhere above this: a mean is at most its largest term."""
        old = np.searchsorted(begun.minute, 0, side="right")
        highest = np.broadcast_to(totals.max(axis=0), begun.starts.shape).copy()
        if old < len(begun.minute):
            ahead = np.maximum.accumulate(totals[::-1])[::-1]
            highest[old:] = ahead[begun.minute[old:]]
        tops = ((highest - begun.starts) / begun.effects[:, None]).max(axis=1)
        return float(self._weighted(first.max(), tops))

    def _logs(self, totals: Array, first: Array, begun: "_Begun") -> Array:
        """The logarithm of the weighted sum at each minute."""
        terms = (totals[:, None, :] - begun.starts) / begun.effects[:, None]
        logs = log_mean(terms) if len(begun.minute) else np.zeros((len(totals), 0))
        logs[np.arange(len(totals))[:, None] < begun.minute] = -np.inf
        return self._weighted(log_mean(first), logs)

    def _weighted(self, first: Array, restarted: Array) -> Array:
        parts = _log_sum(restarted) - log(2 * self.hours)
        return np.asarray(np.logaddexp(first - log(2), parts))

    @property
    def log(self) -> float:
        """The logarithm of the evidence now."""
        begun = _Begun(np.zeros(len(self.starts), dtype=np.int64), self.starts, self.effects)
        return float(self._logs(self.totals[None], self.first[None], begun)[0])


@dataclass(frozen=True, slots=True)
class _Begun:
    """Restarted processes: with which minute of a stretch each began, where, and how tempered."""

    minute: Numbers
    starts: Array
    effects: Array

    def before(self, minute: int) -> "_Begun":
        """Those of the stretch before a minute."""
        early = self.minute < minute
        return _Begun(self.minute[early], self.starts[early], self.effects[early])

    def since(self, minute: int) -> "_Begun":
        """All, as the stretch that begins with a minute sees them."""
        return _Begun(np.maximum(self.minute - minute, 0), self.starts, self.effects)


def _running(start: Array, increments: Array) -> Array:
    """Sums before and after each minute, added in order: alike however the minutes are cut."""
    return np.cumsum(np.concatenate((start[None], increments)), axis=0)


def _log_sum(logs: Array) -> Array:
    """The logarithm of the sum over the last axis; -inf for nothing."""
    if not logs.shape[-1]:
        return np.full(logs.shape[:-1], -np.inf)
    return np.asarray(np.logaddexp.reduce(logs, axis=-1))
