"""QoS monitoring of the running engine: what streams show, and what is done about it.

Which streams are looked at is decided by the flag, by key, and by `sample_rate`. Whether
anything is done is decided by blocks of time, like the governor, since what remedies move is
shared by all streams: each block begins with what is configured.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from math import nan
from typing import Final

from prometheus_client import Counter, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.config import Config
from engine.core.flags import QOS_MONITORING
from engine.core.qos import QosMonitor, SloStatus
from engine.core.registry import StreamEvent
from engine.runtime.interface import Runtime
from engine.server.actuators import LimitCap, Replicas, Restart
from engine.server.alerts import Alerts
from engine.server.features import Features
from engine.server.parts import Clocks
from engine.server.remediation import Levers, RemediationExecutor

log = logging.getLogger("engine.server.qos")

#: With every block on there is nothing to compare, and nothing is undone between blocks.
_ALWAYS: Final = 100.0


class QosIntegration(Collector):
    """Listens to the stream registry; owns the monitor and the executor.

    Args:
        config: as at the start.
        features: which streams, and which blocks.
        runtime: scaled and renewed.
        engine_id: names the engine in alerts.
        clocks: of the engine.
        limit: the limit of streams without any cap.
        on_limit: called when the cap moved.
    """

    def __init__(
        self,
        *,
        config: Config,
        features: Features,
        runtime: Runtime,
        engine_id: str,
        clocks: Clocks,
        limit: Callable[[], int],
        on_limit: Callable[[], None],
    ) -> None:
        qos, store = config.qos, config.qos.store()
        self._features = features
        self._clocks = clocks
        self._seen = 0
        self._looks = 0
        self._block = -1
        self._acted = False  # in this block
        self._last: list[SloStatus] = []
        self._seconds = qos.evaluation_seconds
        self.monitor = QosMonitor(store.slos, qos.window_seconds, qos.min_samples)
        bounds, replicas = qos.remediation, config.runtime.replicas
        self.cap = LimitCap(limit, config.governor.min_limit)
        self.executor = RemediationExecutor(
            store,
            bounds.limits(),
            self.monitor,
            Levers(
                limit=self.cap,
                replicas=Replicas(runtime, replicas, bounds.min_replicas, bounds.max_replicas),
                runtime=Restart(runtime),
                webhook=Alerts.from_environment(self.monitor.slo, engine_id, clocks.wall),
            ),
            clock=clocks.now,
            on_limit=on_limit,
            dry_run=bounds.dry_run,
        )

    def show(self, violations: Counter, executed: Gauge) -> None:
        """Serve the two names of the requirements; every child is there from the start."""
        self._violations = {name: violations.labels(name) for name in self.monitor.violations_total}
        executed.set_function(lambda: self.executor.executed)

    def ended(self, event: StreamEvent) -> None:
        """A listener of the registry: every Nth end of a stream with the flag is looked at."""
        if QOS_MONITORING not in event.flags:
            return
        if self._seen % self._features.sample_rate == 0:
            self.monitor.observe(event)
        self._seen += 1

    async def run(self) -> None:
        """Look at the SLOs at their interval, and act. Runs until cancelled."""
        async with asyncio.TaskGroup() as deeds:
            while True:
                await asyncio.sleep(self._seconds)
                for deed in self.look():
                    deeds.create_task(deed)

    def look(self) -> list[Coroutine[None, None, None]]:
        """Evaluate once; returns what is to be done now, to be started at once and in order."""
        now, wall = self._clocks.now(), self._clocks.wall()
        self.cap.turn()
        deeds = self._enter(wall)
        if not self._features.share(QOS_MONITORING):
            return deeds
        self._looks += 1
        self._last = self.monitor.evaluate(now)
        for status in self._last:
            self._report(status)
        if self._features.block_on(QOS_MONITORING, wall):
            self._acted = True
            orders = self.executor.remediator.look(self._last, now)
            deeds.extend(self.executor.carry_out(order) for order in orders)
        return deeds

    def _enter(self, wall: float) -> list[Coroutine[None, None, None]]:
        """A block begins from what is configured; so does the time after the flag went off."""
        block, share = self._features.block(wall), self._features.share(QOS_MONITORING)
        fresh = block != self._block or not share
        self._block = block
        if not (fresh and self._acted) or share >= _ALWAYS:
            return []
        self._acted = False
        return self.executor.reset()

    def _report(self, status: SloStatus) -> None:
        if status.edge is None or status.value is None:
            return
        level = logging.WARNING if status.edge == "violated" else logging.INFO
        log.log(
            level,
            "SLO %s %s: %s is %.6g, limit %.6g, n=%d",
            *(status.name, status.edge, status.metric, status.value, status.limit, status.n),
        )
        if status.edge == "violated":
            self._violations[status.name].inc()

    def view(self) -> dict[str, object]:
        """What `/v1/status` shows."""
        return {
            "violations": [status.name for status in self._last if status.active],
            "breakers": self.executor.breakers(),
            "limit_cap": self.cap.cap,
        }

    def collect(self) -> Iterator[Metric]:
        """For Prometheus; every label is always there."""
        yield CounterMetricFamily(
            "phase5_qos_streams", "Ends of streams looked at", value=self.monitor.observed
        )
        yield CounterMetricFamily("phase5_qos_looks", "Looks at the SLOs", value=self._looks)
        values = GaugeMetricFamily("phase5_slo_value", "As last measured", labels=("slo",))
        active = GaugeMetricFamily("phase5_slo_violated", "1 while violated", labels=("slo",))
        found = CounterMetricFamily("phase5_qos_violations", "SLO violations", labels=("slo",))
        last = {status.name: status for status in self._last}
        for name in self.monitor.violations_total:
            value = last[name].value if name in last else None
            values.add_metric((name,), nan if value is None else value)
            active.add_metric((name,), name in last and last[name].active)
            found.add_metric((name,), self.monitor.violations_total[name])
        yield values
        yield active
        yield found
        yield from self.executor.collect()
