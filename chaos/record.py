"""Everything that was seen of one run, on one clock. Data, and ways to look at it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Any, Final

from chaos.observing import Look
from gates.evidence import Outcome, Sample

BASELINE: Final = "baseline"  #: traffic begins
READY: Final = "ready"  #: the baseline is over; the traffic that meets the fault begins
INJECTED: Final = "injected"
HEALED: Final = "healed"
ENDED: Final = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a fault was measured to have done, and whether that bears out what was asked."""

    values: Mapping[str, Any] = field(default_factory=dict)
    proven: bool = False
    why: str = ""  #: why it is not proven


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One run. Times are seconds of this machine's monotonic clock."""

    begun: float
    marks: Mapping[str, float]
    samples: Mapping[str, tuple[Sample, ...]]  #: by flow
    looks: tuple[Look, ...] = ()
    log: str = ""  #: of the engine

    def at(self, mark: str) -> float:
        """When a mark was set; LookupError when the run did not come so far."""
        return self.marks[mark]

    def before(self, flow: str) -> list[Sample]:
        """Requests that were due in the baseline."""
        return self._due(flow, self.at(BASELINE), self.at(READY))

    def during(self, flow: str) -> list[Sample]:
        """Requests that were due while the fault lasted."""
        return self._due(flow, self.at(INJECTED), self.at(HEALED))

    def after(self, flow: str) -> list[Sample]:
        """Requests that were due behind its end."""
        return self._due(flow, self.at(HEALED), self.at(ENDED))

    def met(self, flow: str) -> list[Sample]:
        """Requests that the fault may have met: open at some time while it lasted."""
        begin, end = self.at(INJECTED), self.at(HEALED)
        return [s for s in self.samples.get(flow, ()) if s.scheduled < end and _open(s, begin)]

    def caught(self, flow: str) -> list[Sample]:
        """Streams that were in the middle when the fault came."""
        at = self.at(INJECTED)
        return [
            s
            for s in self.samples.get(flow, ())
            if s.first_token is not None and s.first_token < at and _open(s, at)
        ]

    def under_way(self, flow: str) -> list[Sample]:
        """Streams that were open when the fault came, those that still waited as well."""
        at = self.at(INJECTED)
        return [
            s
            for s in self.samples.get(flow, ())
            if s.sent is not None and s.sent < at and _open(s, at)
        ]

    def seen(self, begin: str, end: str) -> tuple[Look, ...]:
        """Looks between two marks."""
        return tuple(k for k in self.looks if self.at(begin) <= k.at <= self.at(end))

    def last_before_fault(self) -> Look | None:
        """The engine just before it was broken; None when it did not answer."""
        return _answered(self.looks, until=self.at(INJECTED))

    def last(self) -> Look | None:
        """The engine at the end, when its clients are gone."""
        return _answered(self.looks)

    def growth(self, name: str, **labels: str) -> float | None:
        """By how much a counter grew from the fault on; None where that is not known."""
        old, new = self.last_before_fault(), self.last()
        if old is None or new is None:
            return None
        return new.total(name, **labels) - old.total(name, **labels)

    def _due(self, flow: str, begin: float, end: float) -> list[Sample]:
        return [s for s in self.samples.get(flow, ()) if begin <= s.scheduled < end]


def whole(sample: Sample, tokens: int) -> bool:
    """Whether an answer came to its end with exactly the tokens that were asked for."""
    return sample.outcome is Outcome.OK and sample.output_tokens == tokens


def changes(values: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Each value that differs from the one before, with that one."""
    for old, new in pairwise(values):
        if old != new:
            yield old, new


def _open(sample: Sample, at: float) -> bool:
    return sample.end is None or sample.end >= at


def _answered(looks: Sequence[Look], until: float = inf) -> Look | None:
    return next((k for k in reversed(looks) if k.at <= until and not k.error), None)
