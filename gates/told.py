"""What one engine told at one moment, checked: families and counts, or why not to believe them.

Every family that the engine makes at start must be there: one that lacks was lost on the way, and
an absent error counter is not one that reads 0.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import inf, isfinite
from typing import Final

from engine.core.flags import FLAGS, FlagSet, every_flag_set
from gates.exposition import BUILD, BUSIEST, DURATION, EARLY, REQUESTS, TTFT, Sample, Scrape

#: The flag set of every combination of flag labels, in the order of `FLAGS`.
_SETS: Final[Mapping[tuple[str | None, ...], FlagSet]] = {
    tuple("on" if flag in flags else "off" for flag in FLAGS): flags for flags in every_flag_set()
}

OUTCOMES: Final = ("ok", "failed", "cut", "shed", "rejected", "cancelled")


class DoubtError(ValueError):
    """Why what an engine told is not to be believed."""


@dataclass(frozen=True)
class Told:
    """One scrape, by family."""

    scrape: Scrape

    @cached_property
    def _by_name(self) -> Mapping[str, list[Sample]]:
        families: defaultdict[str, list[Sample]] = defaultdict(list)
        for sample in self.scrape.samples:
            families[sample.name].append(sample)
        return families

    def family(self, name: str) -> list[Sample]:
        """The samples of a family; none when it is not there."""
        return self._by_name.get(name, [])

    @cached_property
    def build(self) -> Mapping[str, str]:
        """What runs there, as labels.

        Raises:
            DoubtError: it does not say so, or says two things.
        """
        builds = [sample.labels for sample in self.family(BUILD)]
        if len(builds) != 1 or not builds[0].get("engine"):
            raise DoubtError(f"{self.scrape.target} does not tell which engine and build it is")
        return builds[0]

    @property
    def engine(self) -> str:
        """Its own name.

        Raises:
            DoubtError: as for `build`.
        """
        return self.build["engine"]

    def one(self, name: str, **labels: str) -> float:
        """The value of a series.

        Raises:
            DoubtError: it is not there exactly once.
        """
        found = [s.value for s in self.family(name) if labels.items() <= s.labels.items()]
        if len(found) != 1:
            raise DoubtError(f"{self.engine} tells {name} {len(found)} times, not once")
        return found[0]

    @cached_property
    def edges(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The upper edges of its buckets without +Inf: TTFT, duration.

        Raises:
            DoubtError: flag sets differ in them, or there are none.
        """
        ttft, duration = (self._edges(name) for name in (TTFT, DURATION))
        return ttft, duration

    def _edges(self, name: str) -> tuple[float, ...]:
        found = defaultdict[FlagSet, list[float]](list)
        for sample in self.family(name):
            found[self._flags(sample)].append(_number(sample.labels.get("le", "")))
        lists = {tuple(sorted(edges)) for edges in found.values()}
        if len(lists) != 1 or len(found) != 2 ** len(FLAGS):
            raise DoubtError(f"{self.engine} tells {name} in part")
        edges = lists.pop()
        if edges[-1] != inf or len(set(edges)) != len(edges):
            raise DoubtError(f"{self.engine} tells {name} without +Inf, or an edge twice")
        return edges[:-1]

    @cached_property
    def requests(self) -> Mapping[FlagSet, Mapping[str, int]]:
        """Requests of each flag set by outcome.

        Raises:
            DoubtError: one lacks, or is no number of requests.
        """
        counts: dict[FlagSet, dict[str, int]] = {}
        seen: set[tuple[object, ...]] = set()
        for sample in self.family(REQUESTS):
            flags, outcome = self._flags(sample), sample.labels.get("outcome", "")
            seen.add((flags, outcome, sample.labels.get("protocol")))
            by_outcome = counts.setdefault(flags, dict.fromkeys(OUTCOMES, 0))
            by_outcome[outcome] = by_outcome.get(outcome, 0) + self._count(sample)
        protocols = {protocol for _, _, protocol in seen}
        whole = 2 ** len(FLAGS) * len(OUTCOMES) * len(protocols)
        if not seen or len(seen) != whole or len(seen) != len(self.family(REQUESTS)):
            raise DoubtError(f"{self.engine} tells {REQUESTS} in part")
        return counts

    @cached_property
    def early(self) -> Mapping[FlagSet, int]:
        """Cancels before the first token.

        Raises:
            DoubtError: as for `requests`.
        """
        counts = {self._flags(sample): self._count(sample) for sample in self.family(EARLY)}
        if len(counts) != 2 ** len(FLAGS):
            raise DoubtError(f"{self.engine} tells {EARLY} in part")
        return counts

    @cached_property
    def ttft(self) -> Mapping[FlagSet, tuple[int, ...]]:
        """First tokens by bucket; as for `histogram`."""
        return self.histogram(TTFT, len(self.edges[0]))

    @cached_property
    def duration(self) -> Mapping[FlagSet, tuple[int, ...]]:
        """Whole requests by bucket; as for `histogram`."""
        return self.histogram(DURATION, len(self.edges[1]))

    def histogram(self, name: str, edges: int) -> Mapping[FlagSet, tuple[int, ...]]:
        """Counts by bucket for each flag set.

        Raises:
            DoubtError: a bucket holds less than the one below it.
        """
        found = defaultdict[FlagSet, list[tuple[float, int]]](list)
        for sample in self.family(name):
            found[self._flags(sample)].append((float(sample.labels["le"]), self._count(sample)))
        histograms = {}
        for flags, buckets in found.items():
            rising = [0, *(count for _, count in sorted(buckets))]
            counts = tuple(b - a for a, b in pairwise(rising))
            if min(counts) < 0 or len(counts) != edges + 1:
                raise DoubtError(f"{self.engine} tells {name} with a bucket that falls")
            histograms[flags] = counts
        return histograms

    def _flags(self, sample: Sample) -> FlagSet:
        flags = _SETS.get(tuple(map(sample.labels.get, FLAGS)))
        if flags is None:
            raise DoubtError(f"{self.engine} tells {sample.name} without the arms of every flag")
        return flags

    def _count(self, sample: Sample) -> int:
        value = sample.value
        if not isfinite(value) or value < 0 or value != int(value):
            raise DoubtError(
                f"{self.engine} tells {value!r} for {sample.name}: no number of events"
            )
        return int(value)

    def count(self, name: str, flag: str, arm: str) -> int | None:
        """A number of an arm of a flag that an engine may leave out; None when it does."""
        found = [s for s in self.family(name) if _about(s, flag, arm)]
        return self._count(found[0]) if len(found) == 1 else None

    def busiest(self, flag: str, arm: str) -> dict[str, int]:
        """Requests of the busy keys of an arm, by digest."""
        samples = (s for s in self.family(BUSIEST) if _about(s, flag, arm))
        return {sample.labels.get("key", ""): self._count(sample) for sample in samples}

    def total(self, name: str) -> int:
        """The sum of a counter over its labels.

        Raises:
            DoubtError: there is none.
        """
        samples = self.family(name)
        if not samples:
            raise DoubtError(f"{self.engine} does not tell {name}")
        return sum(map(self._count, samples))


def _about(sample: Sample, flag: str, arm: str) -> bool:
    return sample.labels.get("flag") == flag and sample.labels.get("arm") == arm


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
