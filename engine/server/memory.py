"""Watches what the runtime's processes hold and does what the pressure ladder says.

The figure is the process's own word (`Replica.memory_bytes`), not the front end's look at
`/proc`: only the process knows what Metal holds for it, and it may run on another machine.
An idle process says nothing, so a figure may be old; the ladder's first measure, an
eviction, costs nobody an answer and brings a fresh one.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.core.pressure import (
    RENEW_SECONDS,
    Evict,
    PressureLadder,
    Reading,
    Renew,
    Rung,
    Shed,
    Shrink,
)
from engine.runtime.interface import Runtime, RuntimeStartError
from engine.server.machine import process_budget

log = logging.getLogger("engine.server.memory")

#: A measure shows a second later, and reading costs microseconds.
LOOK_SECONDS: Final = 1.0

ACTIONS: Final = {Evict: "evict", Shrink: "shrink", Shed: "shed", Renew: "renew"}


class MemoryWatch(Collector):
    """One ladder for the pool: it goes by the process that holds most.

    Args:
        runtime: who is read, and who evicts and renews.
        configured: bytes that each process may hold; None: a share of the machine's.
        floor: the ladder does not shrink the limit of streams below it.
        clock: monotonic seconds.
    """

    def __init__(
        self, runtime: Runtime, configured: int | None, floor: int, clock: Callable[[], float]
    ) -> None:
        self._runtime = runtime
        self._configured = configured
        self._clock = clock
        self._ladder = PressureLadder(floor)
        self._counts = dict.fromkeys(ACTIONS.values(), 0)
        self.held = 0
        self.budget, self._source = process_budget(configured, processes=1)

    # The limit and the shedding are read from the ladder; what is done to the runtime is below.

    def capped(self, limit: int) -> int:
        """The limit of streams, after what the memory allows."""
        return self._ladder.capped(limit)

    def shed_seconds(self) -> float:
        """How long new requests are turned away from now on; 0 when they are not."""
        return self._ladder.shed_seconds(self._clock())

    def look(self, limit: int) -> bool:
        """Read once and act; `limit` is that of the governor or the configuration.

        Returns:
            Whether the runtime is to be renewed now.
        """
        pool = self._runtime.replicas()
        most = max(pool, key=lambda replica: replica.memory_bytes, default=None)
        self.held = most.memory_bytes if most else 0
        try:
            self.budget, self._source = process_budget(self._configured, len(pool) or 1)
        except OSError as error:  # no descriptor left to read it with: it was so a second ago
            log.warning("cannot read what memory there is: %s", error)
        reading = Reading(
            held=self.held,
            budget=self.budget,
            prefix_bytes=most.prefix_bytes if most else 0,
            limit=limit,
        )
        before = self._ladder.rung
        actions = self._ladder.look(reading, self._clock())
        for action in actions:
            self._counts[ACTIONS[type(action)]] += 1
            if isinstance(action, Evict):
                self._runtime.evict(action.keep_bytes)
        self._tell(before)
        return Renew() in actions

    async def run(self, limit: Callable[[], int]) -> None:
        """Look once a second. Runs until cancelled, and gives up a renewal then."""
        async with asyncio.TaskGroup() as renewals:
            while True:
                if self.look(limit()):
                    renewals.create_task(self._renew())
                await asyncio.sleep(LOOK_SECONDS)

    def announce(self) -> None:
        """Tell, once the engine serves, what is watched."""
        log.info("a runtime process may hold %d bytes: %s", self.budget, self._source)

    def view(self) -> dict[str, int | str]:
        """What `/v1/status` shows."""
        return {"bytes": self.held, "budget": self.budget, "rung": self._ladder.rung.value}

    def collect(self) -> Iterator[Metric]:
        """What `/metrics` shows; every label is always there."""
        yield GaugeMetricFamily(
            "phase5_memory_bytes", "Held by the runtime process that holds most", value=self.held
        )
        yield GaugeMetricFamily(
            "phase5_memory_budget_bytes", "What a runtime process may hold", value=self.budget
        )
        rungs = GaugeMetricFamily("phase5_memory_rung", "Where the ladder is", labels=("rung",))
        for rung in Rung:
            rungs.add_metric((rung.value,), rung is self._ladder.rung)
        yield rungs
        actions = CounterMetricFamily(
            "phase5_memory_actions", "Measures against memory pressure", labels=("action",)
        )
        for name, count in self._counts.items():
            actions.add_metric((name,), count)
        yield actions

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(RENEW_SECONDS):
                await self._runtime.renew()
        except (RuntimeStartError, TimeoutError) as error:
            log.error("the runtime could not be renewed: %r", error)  # noqa: TRY400 - one line
        finally:
            before = self._ladder.rung
            self._ladder.renewed(self._clock())
            self._tell(before)

    def _tell(self, before: Rung) -> None:
        """One line for each change of rung."""
        now = self._ladder.rung
        if now is before:
            return
        level = (
            logging.WARNING if list(Rung).index(now) > list(Rung).index(before) else logging.INFO
        )
        text = "memory: %s after %s: a runtime process holds %d bytes, budget %d"
        if now is Rung.UNREACHABLE:
            level = logging.ERROR
            text += "; a fresh one does so too: raise runtime.memory_bytes, or lower the load on it"
        log.log(level, text, now, before, self.held, self.budget)
