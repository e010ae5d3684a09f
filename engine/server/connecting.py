"""What the connections of the clients came to, for Prometheus."""

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.server.connections import PROTOCOLS, Connections

#: Requests of one connection, which may live for days.
_SERVED_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000)


def register_connections(registry: CollectorRegistry, connections: Connections) -> None:
    """Show them in a registry."""
    served = Histogram(
        "phase5_connection_requests",
        "Requests that a connection brought, told when it ends",
        ("protocol",),
        buckets=_SERVED_BUCKETS,
        registry=registry,
    )
    children = {each: served.labels(each) for each in PROTOCOLS}
    connections.on_end = lambda kind, requests: children[kind].observe(requests)
    registry.register(_Counts(connections))


class _Counts(Collector):
    """Read at the scrape."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def collect(self) -> Iterator[Metric]:
        """One family for each figure, by protocol."""
        for name, text in (
            ("opened", "Connections that brought a request: handshakes"),
            ("resets", "Answers that their clients did not want to the end"),
            ("goaways", "Connections that were told to go"),
        ):
            family = CounterMetricFamily(
                f"phase5_connections_{name}" if name != "resets" else "phase5_streams_reset",
                text,
                labels=("protocol",),
            )
            for kind, counts in self._connections.counts.items():
                family.add_metric((kind,), getattr(counts, name))
            yield family
        now = GaugeMetricFamily(
            "phase5_connections_open", "Connections open now", labels=("protocol",)
        )
        under_way = GaugeMetricFamily(
            "phase5_connection_streams_max",
            "Requests under way on the connection that has most",
            labels=("protocol",),
        )
        for kind in PROTOCOLS:
            now.add_metric((kind,), self._connections.open(kind))
            under_way.add_metric((kind,), self._connections.busiest(kind))
        yield now
        yield under_way
