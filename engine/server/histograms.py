"""Histograms of what happens with every token."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_INFINITE: Final = "+Inf"


class Tally:
    """One child: a count for each bucket, and the sum of the values.

    A fifth of the cost of the library's, which takes a lock for each of three values; here
    whoever observes and the scrape share one thread.
    """

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Add a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> Iterator[tuple[str, float]]:
        """The buckets as Prometheus has them: each holds those below it."""
        below = 0
        bounds = [*map(floatToGoString, self._bounds), _INFINITE]
        for bound, count in zip(bounds, self.counts, strict=True):
            below += count
            yield bound, below


class TokenHistogram(Collector):
    """A histogram with labels whose children are all made at start."""

    def __init__(
        self,
        *,
        name: str,
        text: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        children: Iterable[tuple[str, ...]],
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self.children: Mapping[tuple[str, ...], Tally] = {each: Tally(bounds) for each in children}
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The family, as the library's own would write it."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, tally in self.children.items():
            family.add_metric(values, list(tally.cumulative()), tally.sum)
        yield family
