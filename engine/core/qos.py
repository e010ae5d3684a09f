"""Service levels over a sliding window: is each kept, violated, or unknown?"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from engine.core.registry import StreamEvent
from engine.core.windows import SlidingWindow, quantile

Severity = Literal["warning", "critical"]
SloState = Literal["no_data", "ok", "violated"]

#: A minute at 160 streams a second, well above what one machine serves: it bounds memory.
MAX_EVENTS: Final = 10_000

MILLISECONDS: Final = 1000.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """A metric's value over the window and the number of streams behind it."""

    value: float
    n: int


Metric = Callable[[Sequence[StreamEvent]], Measurement | None]


def _ttft_p95_ms(events: Sequence[StreamEvent]) -> Measurement | None:
    """Of every stream that had a first token, however it ended."""
    return _quantile_ms([event.ttft for event in events if event.ttft is not None], 0.95)


def _latency_p99_ms(events: Sequence[StreamEvent]) -> Measurement | None:
    """Of completed streams: a stream that broke off early was not fast."""
    return _quantile_ms([event.duration for event in events if event.kind == "completed"], 0.99)


def _error_rate(events: Sequence[StreamEvent]) -> Measurement | None:
    """Errors of all that ended by our doing; a client that leaves proves neither."""
    ended = [event.kind == "error" for event in events if event.kind != "cancelled"]
    return Measurement(sum(ended) / len(ended), len(ended)) if ended else None


def _throughput_tps(events: Sequence[StreamEvent]) -> Measurement | None:
    """Output tokens for each second in which a stream lived: idle time is not slowness."""
    seconds = _covered((event.now - event.duration, event.now) for event in events)
    if seconds == 0:
        return None
    return Measurement(sum(event.output_tokens for event in events) / seconds, len(events))


def _quantile_ms(seconds: Sequence[float], share: float) -> Measurement | None:
    if not seconds:
        return None
    return Measurement(quantile(seconds, share) * MILLISECONDS, len(seconds))


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """The length of the union of spans."""
    covered, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        covered += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return covered


#: Every metric a policy may name.
METRICS: Final[Mapping[str, Metric]] = {
    "ttft_p95_ms": _ttft_p95_ms,
    "latency_p99_ms": _latency_p99_ms,
    "error_rate": _error_rate,
    "throughput_tps": _throughput_tps,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """A ceiling (`max`) or a floor (`min`) on a metric: the fields of `SloPolicy`."""

    name: str
    metric: str
    max: float | None = None
    min: float | None = None
    severity: Severity = "warning"

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(
                f"SLO {self.name!r}: unknown metric {self.metric!r}; allowed: {', '.join(METRICS)}"
            )
        if (self.max is None) == (self.min is None):
            raise ValueError(f"SLO {self.name!r} needs exactly one of max and min")

    @property
    def limit(self) -> float:
        """The bound, whichever side it is on."""
        return next(bound for bound in (self.max, self.min) if bound is not None)

    def kept(self, value: float) -> bool:
        """Whether a value is on the good side. The bound itself is good."""
        return value <= self.limit if self.max is not None else value >= self.limit


@dataclass(frozen=True, slots=True)
class SloStatus:
    """One SLO at one moment. `value` is None when there is nothing to measure."""

    name: str
    metric: str
    value: float | None
    n: int
    state: SloState
    limit: float


class QosMonitor:
    """Evaluates SLOs over the streams that ended in the last `window_s` seconds.

    Fewer than `min_samples` streams are `no_data`, which is neither kept nor violated: a
    violation lasts through silence until the SLO is seen kept again.
    """

    def __init__(self, policies: Iterable[Slo], window_s: float, min_samples: int) -> None:
        self._policies = tuple(policies)
        names = Counter(slo.name for slo in self._policies)
        if doubles := [name for name, times in names.items() if times > 1]:
            raise ValueError(f"SLO names must differ; given more than once: {', '.join(doubles)}")
        self._min_samples = min_samples
        self._window: SlidingWindow[StreamEvent] = SlidingWindow(window_s, MAX_EVENTS)
        self._violated: set[str] = set()
        self._violations = dict.fromkeys(names, 0)
        self._recoveries = dict.fromkeys(names, 0)

    @property
    def violations_total(self) -> Mapping[str, int]:
        """For each SLO, how often it went from not violated to violated."""
        return dict(self._violations)

    @property
    def recoveries_total(self) -> Mapping[str, int]:
        """For each SLO, how often it went from violated to kept."""
        return dict(self._recoveries)

    def observe(self, event: StreamEvent) -> None:
        """Take in the end of a stream, good or bad: rates need both."""
        self._window.add(event, event.now)

    def evaluate(self, now: float) -> list[SloStatus]:
        """Every SLO over the window that ends now, in the order of the policies."""
        events = self._window.samples(now)
        statuses = [self._status(slo, METRICS[slo.metric](events)) for slo in self._policies]
        for status in statuses:
            self._count_edge(status)
        return statuses

    def _status(self, slo: Slo, measured: Measurement | None) -> SloStatus:
        if measured is None:
            return SloStatus(slo.name, slo.metric, None, 0, "no_data", slo.limit)
        state: SloState = "ok" if slo.kept(measured.value) else "violated"
        if measured.n < self._min_samples:
            state = "no_data"
        return SloStatus(slo.name, slo.metric, measured.value, measured.n, state, slo.limit)

    def _count_edge(self, status: SloStatus) -> None:
        if status.state == "violated" and status.name not in self._violated:
            self._violated.add(status.name)
            self._violations[status.name] += 1
        elif status.state == "ok" and status.name in self._violated:
            self._violated.remove(status.name)
            self._recoveries[status.name] += 1
