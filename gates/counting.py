"""What a live criterion counts in each minute: how many requests, how many of them bad.

Two answers each: for a rollback, in doubt fewer bad ones in the treatment; for a pass, in doubt
more. They differ only where a limit lies between the edges of a histogram's buckets, where the
tolerance differs, and where errors of one key count as one draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log
from typing import Final, Protocol

import numpy as np

from gates.criteria import Criterion, Kind, Measure
from gates.eprocess import Array
from gates.findings import number
from gates.histogram import beyond, interpolated, nearest_edge
from gates.ledger import Header
from gates.minutes import Columns, Minutes
from gates.mixture import CLIP


@dataclass(frozen=True, slots=True)
class Seen:
    """One row a minute."""

    n: Array
    bad: Array
    control_n: Array
    control_bad: Array


class Counting(Protocol):
    """Counts the minutes of a ledger, in order; may remember those before."""

    tempered: bool  #: the counts scatter more than coins, so a design effect is estimated

    def count(self, minutes: Minutes) -> tuple[Seen, Seen]:
        """For a rollback, and for a pass."""
        ...

    def compare(self, treatment: Columns, control: Columns) -> tuple[float, float] | None:
        """How much worse a treatment block is than its control block, in log ratios.

        For a rollback and for a pass, each less what is tolerated; None when they do not compare.
        """
        ...


@dataclass(slots=True)
class Events:
    """Requests of a kind that is counted one by one: errors, or another end."""

    bad: str  #: a column
    base: str  #: the column of all requests among which they are counted
    rollback_bad: str
    ratios: tuple[float, float]  #: tolerated, for a rollback and for a pass
    unit: float  #: a difference of shares that counts as one clip of a log ratio
    tempered: bool = False

    def count(self, minutes: Minutes) -> tuple[Seen, Seen]:
        """See `Counting`."""
        return self._seen(minutes, self.rollback_bad), self._seen(minutes, self.bad)

    def compare(self, treatment: Columns, control: Columns) -> tuple[float, float] | None:
        """See `Counting`."""
        n, control_n = (float(getattr(arm, self.base).sum()) for arm in (treatment, control))
        if not n or not control_n:
            return None
        rate, reference = (
            float(getattr(arm, self.bad).sum()) / size
            for arm, size in ((treatment, n), (control, control_n))
        )
        first, second = (CLIP * (rate - ratio * reference) / self.unit for ratio in self.ratios)
        return first, second

    def _seen(self, minutes: Minutes, bad: str) -> Seen:
        treatment, control = minutes.treatment, minutes.control
        return Seen(
            getattr(treatment, self.base),
            getattr(treatment, bad),
            getattr(control, self.base),
            getattr(control, bad),
        )


@dataclass(slots=True)
class Beyond:
    """Requests that took longer than a limit."""

    measure: str
    edges: tuple[float, ...]
    limit: float
    quantile: float
    tempered: bool = True

    def count(self, minutes: Minutes) -> tuple[Seen, Seen]:
        """See `Counting`."""
        least, most = beyond(self.edges, self.limit)
        treatment, control = (getattr(arm, self.measure) for arm in _arms(minutes))
        n, control_n = treatment.sum(axis=1), control.sum(axis=1)
        return (
            Seen(n, treatment @ least, control_n, control @ most),
            Seen(n, treatment @ most, control_n, control @ least),
        )

    def compare(self, treatment: Columns, control: Columns) -> tuple[float, float] | None:
        """See `Counting`."""
        ratio = _log_ratio(self.measure, self.edges, self.quantile, treatment, control)
        return None if ratio is None else (ratio, ratio)


@dataclass(slots=True)
class Slower:
    """Treatment requests over a multiple of the control's quantile, against control ones over it.

    The quantile is the edge of the control's histogram that was nearest to it in all earlier
    minutes, so a minute never chooses its own threshold.
    """

    measure: str
    edges: tuple[float, ...]
    quantile: float
    ratios: tuple[float, float]  #: of times, for a rollback and for a pass
    tempered: bool = True
    history: Array = field(init=False)
    _weights: tuple[Array, Array] = field(init=False)
    _over: Array = field(init=False)

    def __post_init__(self) -> None:
        self.history = np.zeros(len(self.edges) + 1)
        first, second = (
            np.array([interpolated(self.edges, ratio * e, beyond_last=last) for e in self.edges])
            for ratio, last in zip(self.ratios, (0.0, 1.0), strict=True)
        )
        self._weights = (first, second)
        self._over = np.array([beyond(self.edges, edge)[0] for edge in (0.0, *self.edges)])

    def count(self, minutes: Minutes) -> tuple[Seen, Seen]:
        """See `Counting`."""
        treatment, control = (getattr(arm, self.measure) for arm in _arms(minutes))
        known = np.cumsum(np.vstack((self.history, control)), axis=0)
        self.history = known[-1]
        edge = nearest_edge(known[:-1] @ self._over.T, 1 - self.quantile)
        usable = edge >= 0  # before the first requests there is no threshold
        n, control_n = treatment.sum(axis=1) * usable, control.sum(axis=1) * usable
        over = np.einsum("tb,tb->t", control, self._over[1:][edge]) * usable
        first, second = (
            Seen(n, np.einsum("tb,tb->t", treatment, weights[edge]) * usable, control_n, over)
            for weights in self._weights
        )
        return first, second

    def compare(self, treatment: Columns, control: Columns) -> tuple[float, float] | None:
        """See `Counting`."""
        ratio = _log_ratio(self.measure, self.edges, self.quantile, treatment, control)
        if ratio is None:
            return None
        return ratio - log(self.ratios[0]), ratio - log(self.ratios[1])


#: A difference of this share of requests is, for shed and early cancelled ones, as much as 15 %
#: more time: at the load that a stage sees, a client notices either.
_UNIT_OF_ENDS: Final = 0.05


def counting(criterion: Criterion, header: Header) -> Counting:
    """How a live criterion counts.

    Raises:
        ValueError: there is no live judge for its kind and measure.
    """
    match criterion.kind, criterion.measure:
        case Kind.CEILING, Measure.ERROR_RATE:
            unit = number(criterion, "limit")
            return Events("bad", "n", "keyed", (1.0, 1.0), unit)
        case Kind.CEILING, Measure.TTFT | Measure.LATENCY:
            name, edges = _histogram(criterion, header)
            limit, quantile = number(criterion, "limit"), number(criterion, "quantile")
            return Beyond(name, edges, limit, quantile)
        case ((Kind.NON_INFERIORITY | Kind.IMPROVEMENT), (Measure.TTFT | Measure.LATENCY)):
            name, edges = _histogram(criterion, header)
            return Slower(name, edges, number(criterion, "quantile"), tolerated(criterion))
        case Kind.NON_INFERIORITY, Measure.SHED_RATE:
            return Events("shed", "ended", "shed", tolerated(criterion), _UNIT_OF_ENDS)
        case Kind.NON_INFERIORITY, Measure.EARLY_CANCELS:
            return Events("early", "ended", "early", tolerated(criterion), _UNIT_OF_ENDS)
        case _:
            raise ValueError(
                f"criterion {criterion.id!r}: no live judge for kind {criterion.kind.value!r} "
                f"of {criterion.measure.value!r}"
            )


def blaming(criterion: Criterion, header: Header, counts: Counting) -> Counting:
    """What tells whether the treatment is worse than control.

    The count itself, except for a ceiling of a time: how many are over its limit differs
    between two sound hosts as much as their times do, so what is tolerated of a comparison of
    times is tolerated here.
    """
    if not isinstance(counts, Beyond):
        return counts
    name, edges = _histogram(criterion, header)
    return Slower(name, edges, counts.quantile, (_NOTICED, _NOTICED))


def tolerated(criterion: Criterion) -> tuple[float, float]:
    """The ratios of treatment to control that a rollback and a pass tolerate.

    Non-inferiority passes under its margin, and rolls back confidently over half of it:
    in between lies what nobody minds and nobody can promise. An improvement passes under its
    margin, and rolls back what is confidently slower than control.
    """
    margin = number(criterion, "margin")
    if criterion.kind is Kind.IMPROVEMENT:
        return _NOTICED, min(margin, 1 / margin)
    return 1 + (margin - 1) / 2, margin


#: A treatment slower by 5 % is not called worse: two hosts of one kind differ by as much.
_NOTICED: Final = 1.05


def _arms(minutes: Minutes) -> tuple[Columns, Columns]:
    return minutes.treatment, minutes.control


def _histogram(criterion: Criterion, header: Header) -> tuple[str, tuple[float, ...]]:
    if criterion.measure is Measure.TTFT:
        return "ttft", header.ttft_edges
    return "latency", header.latency_edges


def _log_ratio(
    measure: str, edges: Sequence[float], quantile: float, treatment: Columns, control: Columns
) -> float | None:
    ends = [
        _log_quantile(getattr(arm, measure).sum(axis=0), edges, quantile)
        for arm in (treatment, control)
    ]
    if ends[0] is None or ends[1] is None:
        return None
    return ends[0] - ends[1]


def _log_quantile(counts: Array, edges: Sequence[float], quantile: float) -> float | None:
    """The logarithm of a quantile, its bucket's values spread evenly in log time."""
    total = counts.sum()
    if not total:
        return None
    below = np.cumsum(counts)
    place = int(np.searchsorted(below, quantile * total))
    if place >= len(edges):
        return log(edges[-1])
    low = edges[place - 1] if place else edges[0] / 2
    share = float((quantile * total - (below[place] - counts[place])) / counts[place])
    return log(low) + share * log(edges[place] / low)
