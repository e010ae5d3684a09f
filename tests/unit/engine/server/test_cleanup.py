"""What leaks on purpose is reclaimed; what lives never is."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from engine.core.admission import Ticket
from engine.server.cleanup import GRACE_SECONDS
from engine.server.engine import TICK_SECONDS
from engine.server.parts import Clocks
from engine.server.streams import GONE

BODY = {"model": "tiny", "messages": [{"role": "user", "content": "Where?"}], "stream": True}
URL = "/v1/chat/completions"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def clocks(self) -> Clocks:
        return Clocks(now=lambda: self.now, wall=lambda: 1000.0)

    def tick(self, engine: Any, seconds: float) -> None:
        """Let the engine look as often as it does in so much time."""
        end = self.now + seconds
        while self.now < end:
            self.now += TICK_SECONDS
            engine.on_tick()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.001)


def one_slot(make_bench: Any, fake_runtime: Any, clock: Clock) -> Any:
    yaml = "admission: {limit: 1, queue: 5, deadline_seconds: 500}\nserver: {stream_seconds: 900}\n"
    return make_bench(yaml, runtime=fake_runtime(held=True), clocks=clock.clocks())


def reclaimed(bench: Any, kind: str) -> float:
    return bench.get_samples("phase5_cleanup_reclaimed_total")[kind]


def test_a_slot_and_a_place_without_a_stream_are_reclaimed_and_the_next_starts(
    make_bench: Any, fake_runtime: Any
) -> None:
    clock = Clock()
    bench = one_slot(make_bench, fake_runtime, clock)
    queue = bench.engine.dispatcher.queue
    for leaked in (900, 901):  # one gets the slot, the other waits
        queue.offer(Ticket(leaked, clock.now, 1e9, 1, pipeline=False), clock.now)

    async def scene() -> None:
        async with bench.client() as client:
            asked = asyncio.create_task(client.post(URL, json=BODY))
            await until(lambda: queue.waiting == 2)
            clock.tick(bench.engine, GRACE_SECONDS + TICK_SECONDS)
            assert reclaimed(bench, "place") == 2
            assert queue.running == 1
            bench.runtime.tell(1, "x", "stop")
            assert (await asked).status_code == 200

    asyncio.run(scene())
    assert (queue.running, queue.waiting) == (0, 0)


def test_a_stream_whose_client_is_gone_and_that_nobody_ends_is_reclaimed(
    make_bench: Any, fake_runtime: Any
) -> None:
    clock = Clock()
    bench = one_slot(make_bench, fake_runtime, clock)

    async def scene() -> None:
        async with bench.client() as client:
            asked = asyncio.create_task(client.post(URL, json=BODY))
            await until(lambda: 1 in bench.runtime.live)
            stream = bench.engine.dispatcher.streams[1]
            stream.gone = True  # as if its consumer never took the mail out
            clock.tick(bench.engine, GRACE_SECONDS + TICK_SECONDS)
            assert reclaimed(bench, "client_gone") == 1
            assert bench.engine.registry.counts().live == 0
            assert bench.runtime.cancelled == [1]
            stream.post(GONE)  # the consumer wakes after all: nothing is ended twice
            await asyncio.gather(asked, return_exceptions=True)  # httpx got no answer

    asyncio.run(scene())
    counts = bench.engine.registry.counts()
    assert (counts.admitted, counts.cancelled, counts.live) == (1, 1, 0)


def test_a_record_that_nobody_serves_is_reclaimed(make_bench: Any) -> None:
    clock = Clock()
    bench = make_bench(clocks=clock.clocks())
    bench.engine.registry.admit(77, frozenset(), 5, clock.now)
    clock.tick(bench.engine, GRACE_SECONDS + TICK_SECONDS)
    assert reclaimed(bench, "record") == 1
    assert bench.engine.registry.counts().live == 0


def test_a_tenant_that_is_silent_is_forgotten(make_bench: Any) -> None:
    clock = Clock()
    bench = make_bench(clocks=clock.clocks())
    tenants = bench.engine.features.governance.guard.tenants
    for _ in range(5):
        tenants.started("busy", clock.now)
    clock.now += 60
    for _ in range(5):
        tenants.released("busy", clock.now)
    clock.tick(bench.engine, 1)
    assert bench.metric("phase5_tenants") == 1
    clock.now += 600
    clock.tick(bench.engine, 1)
    assert bench.metric("phase5_tenants") == 0
    assert reclaimed(bench, "tenant") == 1


def test_nothing_that_lives_is_ever_reclaimed(
    make_bench: Any, fake_runtime: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """However long it runs, waits or stands still."""
    clock = Clock()
    bench = one_slot(make_bench, fake_runtime, clock)

    async def scene() -> None:
        async with bench.client() as client:
            asked = [asyncio.create_task(client.post(URL, json=BODY)) for _ in range(4)]
            await until(lambda: bench.engine.dispatcher.queue.waiting == 3)
            clock.tick(bench.engine, 60)
            for uid in range(1, 5):
                await until(lambda uid=uid: uid in bench.runtime.live)
                clock.tick(bench.engine, 5)
                bench.runtime.tell(uid, "x", "stop")
            assert [(await one).status_code for one in asked] == [200] * 4

    asyncio.run(scene())
    assert bench.metric("phase5_cleanup_reclaimed_total") == 0
    assert "reclaimed" not in caplog.text


def test_a_sweep_that_comes_late_says_by_how_much(make_bench: Any) -> None:
    clock = Clock()
    bench = make_bench(clocks=clock.clocks())
    bench.engine.registry.admit(77, frozenset(), 5, clock.now)
    bench.engine.on_tick()
    assert bench.metric("phase5_cleanup_suspects") == 1
    clock.now += GRACE_SECONDS + 4
    bench.engine.on_tick()
    assert bench.metric("phase5_cleanup_lag_seconds") == pytest.approx(4)
