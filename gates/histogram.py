"""Histograms with fixed edges, as Prometheus has them: exactly added and subtracted.

A limit stands on an edge, so the share beyond it is exact; where it does not, both neighbours
bound it. A digest would be finer in between and could not be subtracted, so no window could
be cut from a counter that only grows.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, inf, log, log2
from typing import Final

import numpy as np

from gates.eprocess import Array, Numbers

#: Edges a doubling, as in Prometheus's native histograms of schema 3: 9 % from edge to edge.
PER_DOUBLING: Final = 8


def log_edges(low: float, high: float, limits: Iterable[float] = ()) -> tuple[float, ...]:
    """Edges in equal ratios that cover a range, with every limit among them.

    Raises:
        ValueError: unless 0 < low < high, and every limit is positive and finite.
    """
    limits = tuple(limits)
    if not 0 < low < high < inf or not all(0 < limit < inf for limit in limits):
        raise ValueError(f"edges need 0 < low < high and limits over 0, given {low} and {high}")
    first, last = (ceil(PER_DOUBLING * log2(end) - 1e-9) for end in (low, high))
    edges = (2.0 ** (step / PER_DOUBLING) for step in range(first, last + 1))
    return tuple(sorted({*edges, *limits}))


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of values: bucket i holds those over edge i-1, at most edge i; the last the rest.

    Raises:
        ValueError: a bucket is below 0.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.edges) + 1:
            raise ValueError(f"{len(self.edges)} edges make {len(self.edges) + 1} buckets")
        if any(a >= b for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("edges must rise")
        if min(self.counts) < 0:
            raise ValueError(f"a bucket holds {min(self.counts)}: more was taken than was there")

    @classmethod
    def of(cls, values: Array, edges: Sequence[float]) -> "Histogram":
        """Count values.

        Raises:
            ValueError: for a value that is not a number: it belongs into no bucket.
        """
        if np.isnan(values).any():
            raise ValueError(f"{int(np.isnan(values).sum())} values are not numbers")
        places = np.searchsorted(np.asarray(edges), values, side="left")
        counts = np.bincount(places, minlength=len(edges) + 1)
        return cls(tuple(edges), tuple(counts.tolist()))

    @classmethod
    def from_cumulative(cls, buckets: Iterable[tuple[float, float]]) -> "Histogram":
        """From Prometheus's buckets: each upper edge with the count up to it, +Inf last.

        Raises:
            ValueError: without +Inf, or where a count falls.
        """
        rising = sorted(buckets)
        if not rising or rising[-1][0] != inf:
            raise ValueError("the bucket +Inf is missing")
        totals = np.array([0.0, *(count for _, count in rising)])
        counts = np.diff(totals).astype(np.int64)
        return cls(tuple(edge for edge, _ in rising[:-1]), tuple(counts.tolist()))

    def __add__(self, other: "Histogram") -> "Histogram":
        return Histogram(self._like(other), self._with(other, 1))

    def __sub__(self, other: "Histogram") -> "Histogram":
        """What came since an earlier state; a counter that fell was reset, which is an error."""
        return Histogram(self._like(other), self._with(other, -1))

    @property
    def n(self) -> int:
        """How many values."""
        return sum(self.counts)

    def over(self, limit: float) -> tuple[int, int]:
        """At least and at most so many values lie over a limit; alike when it is an edge."""
        place = bisect_left(self.edges, limit)
        most = sum(self.counts[place:])
        exact = place < len(self.edges) and self.edges[place] == limit
        least = sum(self.counts[place + 1 :])
        return (least, least) if exact else (least, most)

    def quantile(self, share: float) -> tuple[float, float]:
        """Edges between which a quantile lies.

        Raises:
            ValueError: for no values.
        """
        if not self.n:
            raise ValueError("a quantile of no values")
        rank = max(1, ceil(share * self.n - 1e-9))
        place = int(np.searchsorted(np.cumsum(self.counts), rank))
        ends = (0.0, *self.edges, inf)
        return ends[place], ends[place + 1]

    def _like(self, other: "Histogram") -> tuple[float, ...]:
        if self.edges != other.edges:
            raise ValueError("histograms with different edges do not add")
        return self.edges

    def _with(self, other: "Histogram", sign: int) -> tuple[int, ...]:
        return tuple(a + sign * b for a, b in zip(self.counts, other.counts, strict=True))


def beyond(edges: Sequence[float], limit: float) -> tuple[Array, Array]:
    """How much of each bucket lies over a limit: at least, and at most. Alike on an edge."""
    upper = np.array([*edges, inf])
    lower = np.array([0.0, *edges])
    return (lower >= limit).astype(np.float64), (upper > limit).astype(np.float64)


def interpolated(edges: Sequence[float], limit: float, *, beyond_last: float) -> Array:
    """How much of each bucket lies over a limit if its values spread evenly in log time.

    Args:
        edges: of the buckets.
        limit: anywhere; on an edge the answer is exact.
        beyond_last: what to take for the last bucket, which has no upper edge, when the limit
            lies in it.
    """
    least, most = beyond(edges, limit)
    place = bisect_left(edges, limit)
    if place == len(edges):
        most[-1] = beyond_last
    elif most[place] != least[place]:
        # Below the first edge nothing tells how values spread: half of an equal ratio is as good.
        low = edges[place - 1] if place else min(limit, edges[0]) / 2
        most[place] = log(edges[place] / limit) / log(edges[place] / low)
    return most


def nearest_edge(over: Array, share: float) -> Numbers:
    """For each row the edge whose share beyond it is nearest in odds; -1 where nothing is known.

    Args:
        over: counts up to now beyond each edge, the first column being all.
        share: beyond the quantile: 0.05 for P95.
    """
    total = over[:, :1]
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = np.log(over[:, 1:] / (total - over[:, 1:]))
    distance = np.abs(odds - log(share / (1 - share)))
    distance[~np.isfinite(distance)] = inf
    nearest = distance.argmin(axis=1)
    return np.where(np.isfinite(distance.min(axis=1)), nearest, -1)
