"""Reclaims what nobody owns any more, with the governor on or off.

Every end of a stream gives back what it held. This is for the end that never came: a client
that is gone while its stream still stands, a slot or a place in the queue without a stream, a
stream that the registry counts and nobody serves, a tenant that has long been silent. Each
reclaimed one but the last is a fault of ours, and is logged.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.core.cleanup import CleanupScheduler
from engine.core.registry import StreamId, StreamRegistry
from engine.core.tenants import TenantBudgets
from engine.server.dispatch import Dispatcher
from engine.server.streams import Stream

log = logging.getLogger("engine.server.cleanup")

#: A stream ends within milliseconds of its client; the slots of a leak are missed for no longer
#: than this and one tick.
GRACE_SECONDS: Final = 1.0

CLIENT_GONE: Final = "client_gone"
PLACE: Final = "place"
RECORD: Final = "record"
TENANT: Final = "tenant"
KINDS: Final = (CLIENT_GONE, PLACE, RECORD, TENANT)


class Cleanup(Collector):
    """Looks whenever it is told to; `give_up` ends a stream as its client's."""

    def __init__(
        self,
        *,
        dispatcher: Dispatcher,
        registry: StreamRegistry,
        tenants: TenantBudgets,
        give_up: Callable[[Stream], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._registry = registry
        self._tenants = tenants
        self._give_up = give_up
        self._scheduler = CleanupScheduler[str, StreamId](GRACE_SECONDS)
        self._reclaimed = dict.fromkeys(KINDS, 0)

    def sweep(self, now: float) -> None:
        """Reclaim what has been abandoned for the grace period."""
        self._reclaimed[TENANT] += self._tenants.forget_idle(now)
        for kind, stream_id in self._scheduler.sweep(self._abandoned(), now):
            log.error("stream %d: reclaimed, it had no owner any more: %s", stream_id, kind)
            self._reclaim(kind, stream_id, now)
            self._reclaimed[kind] += 1

    def collect(self) -> Iterator[Metric]:
        """Read at the scrape."""
        reclaimed = CounterMetricFamily(
            "phase5_cleanup_reclaimed", "What had no owner any more", labels=("kind",)
        )
        for kind, count in self._reclaimed.items():
            reclaimed.add_metric((kind,), count)
        yield reclaimed
        for name, text, value in (
            ("lag_seconds", "Lateness of the last sweep", self._scheduler.lag_seconds),
            ("suspects", "What looks abandoned, in its grace", self._scheduler.suspects),
        ):
            yield GaugeMetricFamily(f"phase5_cleanup_{name}", text, value=value)

    def _abandoned(self) -> Mapping[str, Collection[StreamId]]:
        streams = self._dispatcher.streams
        return {
            CLIENT_GONE: [uid for uid, stream in streams.items() if stream.gone],
            PLACE: self._dispatcher.queue.stream_ids - streams.keys(),
            RECORD: self._registry.stream_ids - streams.keys(),
        }

    def _reclaim(self, kind: str, stream_id: StreamId, now: float) -> None:
        if kind == CLIENT_GONE:
            self._give_up(self._dispatcher.streams[stream_id])
        elif kind == PLACE:
            self._dispatcher.free(stream_id)
        else:
            self._registry.cancel(stream_id, now, "abandoned")
