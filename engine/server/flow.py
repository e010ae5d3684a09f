"""How streams flow, for Prometheus: what was admitted and ended, what waits for its clients.

Every child is created at start. Quantiles of no data are NaN, as Prometheus has it.
"""

from collections.abc import Callable, Iterator
from math import nan
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.core.aggregates import Aggregate, Quantiles
from engine.core.registry import EVENTS, StreamRegistry
from engine.server.connections import SlowReader

#: Why a stream may be dropped that its client did not close.
DROP_REASONS: Final = (SlowReader.reason,)

#: How often the aggregates are shown anew: a scrape every 15 s, as usual, then sees a fresh one.
AGGREGATE_SECONDS: Final = 5.0


class FlowMetrics:
    """Registers itself with `registry`; `paused` and `sending` are read at the scrape."""

    def __init__(
        self,
        registry: CollectorRegistry,
        streams: StreamRegistry,
        *,
        paused: Callable[[], int],
        sending: Callable[[], int],
    ) -> None:
        registry.register(_Streams(streams))
        dropped = Counter(
            "phase5_streams_dropped", "Streams that we gave up", ("reason",), registry=registry
        )
        self.dropped = {reason: dropped.labels(reason) for reason in DROP_REASONS}
        self.pauses = Counter(
            "phase5_stream_pauses", "Times that a stream stood still", registry=registry
        )
        self.overdue = Counter(
            "phase5_streams_overdue", "Streams over their time", registry=registry
        )
        for name, text, value in (
            ("phase5_streams_paused", "Streams that stand still for their clients", paused),
            ("phase5_sends_waiting", "Answers that wait for their clients", sending),
        ):
            Gauge(name, text, registry=registry).set_function(value)
        self._ttft = _quantile_gauge(registry, "ttft", "Time to first token")
        self._duration = _quantile_gauge(registry, "duration", "Duration of completed streams")
        self._tokens = Gauge(
            "phase5_recent_tokens_per_second", "Output tokens a second", registry=registry
        )
        self._utilisation = Gauge(
            "phase5_utilisation", "Running streams for each slot", registry=registry
        )

    def show(self, aggregate: Aggregate) -> None:
        """An `AggregateListener`."""
        _set(self._ttft, aggregate.ttft)
        _set(self._duration, aggregate.duration)
        self._tokens.set(aggregate.tokens_per_second)
        self._utilisation.set(aggregate.utilisation)


class _Streams(Collector):
    """The registry's account, read at the scrape."""

    def __init__(self, streams: StreamRegistry) -> None:
        self._streams = streams

    def collect(self) -> Iterator[Metric]:
        """Always: admitted = completed + error + cancelled + live."""
        counts = self._streams.counts()
        yield CounterMetricFamily(
            "phase5_streams_admitted", "Streams admitted", value=counts.admitted
        )
        ended = CounterMetricFamily("phase5_streams_ended", "Streams ended", labels=("kind",))
        for state, kind in EVENTS.items():
            ended.add_metric((kind,), getattr(counts, state.value))
        yield ended
        yield CounterMetricFamily(
            "phase5_listener_errors",
            "Listeners of streams that raised",
            value=self._streams.listener_errors,
        )
        yield GaugeMetricFamily(
            "phase5_stream_listeners", "Listeners of streams", value=counts.listeners
        )


def _quantile_gauge(registry: CollectorRegistry, name: str, text: str) -> dict[str, Gauge]:
    """The children of one gauge, by the field of `Quantiles`."""
    gauge = Gauge(
        f"phase5_recent_{name}_seconds", f"{text}, last minute", ("quantile",), registry=registry
    )
    children = {"p50": "0.5", "p95": "0.95", "p99": "0.99"}
    made = {field: gauge.labels(label) for field, label in children.items()}
    _set(made, None)
    return made


def _set(gauges: dict[str, Gauge], quantiles: Quantiles | None) -> None:
    for field, gauge in gauges.items():
        gauge.set(nan if quantiles is None else getattr(quantiles, field))
