"""Streams whose client does not keep up, and streams that live too long."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from engine.server.parts import Clocks

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Where?"}]}
SLOW = "server: {buffer_tokens: 16, slow_reader_seconds: 10, stream_seconds: 100}\n"


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def clocks(self) -> Clocks:
        return Clocks(now=lambda: self.now)


class Client:
    """Speaks ASGI to the application; takes a message of the answer only when told to.

    It stands for a server whose buffers are full. `leave` closes its connection.
    """

    def __init__(self, app: Any, body: bytes, http_version: str = "1.1") -> None:
        self.got: list[bytes] = []
        self._permits = asyncio.Semaphore(0)
        self._gone = asyncio.Event()
        self._body: list[bytes] = [body]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": http_version,
            "method": "POST",
            "scheme": "http",
            "path": "/v1/chat/completions",
            "raw_path": b"/v1/chat/completions",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"x-request-id", b"mine")],
            "client": ("192.0.2.9", 9),
            "server": ("127.0.0.1", 80),
        }
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    def take(self, messages: int = 1) -> None:
        for _ in range(messages):
            self._permits.release()

    def leave(self) -> None:
        self._gone.set()
        self.take(1000)

    async def _receive(self) -> dict[str, Any]:
        if self._body:
            return {"type": "http.request", "body": self._body.pop()}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        await self._permits.acquire()
        self.got.append(message.get("body", b""))


async def turns(count: int = 50) -> None:
    """Let everything that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


Story = Callable[[Any, Any, Clock], Awaitable[None]]


def run(make_bench: Any, fake_runtime: Any, story: Story, **body: Any) -> Any:
    """A story with one streamed request that has its place."""
    clock = Clock()
    bench = make_bench(SLOW, runtime=fake_runtime(held=True), clocks=clock.clocks())

    async def main() -> None:
        client = Client(bench.app, json.dumps({**CHAT, "stream": True, **body}).encode())
        await turns()
        assert bench.runtime.live
        await story(bench, client, clock)
        client.leave()
        await asyncio.wait_for(client.task, 10)

    asyncio.run(main())
    counts = bench.engine.registry.counts()
    assert (counts.live, counts.admitted) == (0, body.get("n", 1))
    assert bench.engine.connections.sending == 0
    return bench


def tick(bench: Any, clock: Clock, seconds: float) -> None:
    """Time passes, and the engine looks at it as often as it does."""
    for _ in range(int(2 * seconds)):
        clock.now += 0.5
        bench.engine.on_tick()


def test_a_client_that_takes_nothing_stops_its_stream_at_the_mark(
    make_bench: Any, fake_runtime: Any
) -> None:
    async def story(bench: Any, client: Any, _clock: Clock) -> None:
        bench.runtime.tell(1, "x" * 15)
        await turns()
        assert bench.runtime.paused == set()
        bench.runtime.tell(1, "y")
        assert bench.runtime.paused == {1}
        assert bench.metric("phase5_streams_paused") == 1
        assert bench.metric("phase5_sends_waiting") == 1
        client.take(2)  # the head, and the first event with all that was there
        await turns()
        assert bench.runtime.paused == set()
        assert bench.metric("phase5_streams_paused") == 0
        bench.runtime.tell(1, "", "stop")

    bench = run(make_bench, fake_runtime, story)
    assert bench.metric("phase5_stream_pauses_total") == 1
    assert bench.metric("phase5_requests_total", outcome="ok") == 1


def test_a_stream_goes_on_only_when_little_is_left(make_bench: Any, fake_runtime: Any) -> None:
    async def story(bench: Any, client: Any, _clock: Clock) -> None:
        bench.runtime.tell(1, "x" * 12)
        await turns()  # these twelve are in the message under way
        bench.runtime.tell(1, "y" * 8)
        assert bench.runtime.paused == {1}
        client.take(2)  # twelve of twenty: eight are left, and a quarter is four
        await turns()
        assert bench.runtime.paused == {1}
        client.take()
        await turns()
        assert bench.runtime.paused == set()
        bench.runtime.tell(1, "", "stop")

    run(make_bench, fake_runtime, story)


def test_a_client_that_keeps_up_never_stops_its_stream(make_bench: Any, fake_runtime: Any) -> None:
    async def story(bench: Any, client: Any, _clock: Clock) -> None:
        client.take(1000)
        for _ in range(100):
            bench.runtime.tell(1, "x")
            await turns(10)
        bench.runtime.tell(1, "", "stop")

    bench = run(make_bench, fake_runtime, story)
    assert bench.metric("phase5_stream_pauses_total") == 0


def test_a_whole_answer_waits_for_nobody(make_bench: Any, fake_runtime: Any) -> None:
    async def story(bench: Any, client: Any, _clock: Clock) -> None:
        bench.runtime.tell(1, "x" * 100)
        assert bench.runtime.paused == set()
        bench.runtime.tell(1, "", "stop")
        client.take(2)
        await turns()
        assert b"x" * 100 in client.got[1]

    run(make_bench, fake_runtime, story, stream=False)


def test_a_client_that_takes_nothing_for_too_long_is_dropped_with_its_reason(
    make_bench: Any, fake_runtime: Any, caplog: pytest.LogCaptureFixture
) -> None:
    events = []

    async def story(bench: Any, _client: Any, clock: Clock) -> None:
        bench.engine.registry.add_listener(events.append)
        bench.runtime.tell(1, "x" * 20)
        await turns()
        tick(bench, clock, 9.5)
        await turns()
        assert bench.runtime.live
        tick(bench, clock, 0.5)
        await turns()
        assert not bench.runtime.live

    with caplog.at_level(logging.WARNING):
        bench = run(make_bench, fake_runtime, story)
    assert [(event.kind, event.reason) for event in events] == [("cancelled", "slow_reader")]
    assert bench.metric("phase5_streams_dropped_total", reason="slow_reader") == 1
    assert bench.metric("phase5_requests_total", outcome="cancelled") == 1
    assert bench.metric("phase5_requests_total") == 1
    assert bench.metric("error_rate") == 0
    assert "request mine: dropped after 20 output tokens: slow_reader" in caplog.text
    assert bench.runtime.cancelled == [1]
    assert bench.engine.dispatcher.queue.running == 0


def test_all_choices_of_a_client_that_takes_nothing_stand_still_and_end_together(
    make_bench: Any, fake_runtime: Any
) -> None:
    events = []

    async def story(bench: Any, _client: Any, clock: Clock) -> None:
        bench.engine.registry.add_listener(events.append)
        for uid in (1, 2):
            bench.runtime.tell(uid, "x" * 16)
        await turns()
        assert bench.runtime.paused == {1, 2}
        tick(bench, clock, 10)
        await turns()
        assert not bench.runtime.live

    bench = run(make_bench, fake_runtime, story, n=2)
    assert [(event.kind, event.reason) for event in events] == [("cancelled", "slow_reader")] * 2
    assert bench.metric("phase5_streams_dropped_total", reason="slow_reader") == 1


def test_a_client_that_takes_a_little_now_and_then_is_kept(
    make_bench: Any, fake_runtime: Any
) -> None:
    async def story(bench: Any, client: Any, clock: Clock) -> None:
        for _ in range(5):
            bench.runtime.tell(1, "x")
            await turns()
            tick(bench, clock, 9)
            client.take()
            await turns()
        bench.runtime.tell(1, "", "stop")

    bench = run(make_bench, fake_runtime, story)
    assert bench.metric("phase5_streams_dropped_total") == 0


def test_nobody_is_dropped_for_a_standstill_of_the_engine(
    make_bench: Any, fake_runtime: Any
) -> None:
    async def story(bench: Any, client: Any, clock: Clock) -> None:
        bench.runtime.tell(1, "x" * 20)
        await turns()
        clock.now += 60
        bench.engine.on_tick()
        await turns()
        assert bench.runtime.live
        client.take(3)
        await turns()
        bench.engine.on_tick()
        bench.runtime.tell(1, "", "stop")

    bench = run(make_bench, fake_runtime, story)
    assert bench.metric("phase5_streams_dropped_total") == 0


def test_the_last_words_of_a_failed_stream_wait_no_longer_than_others(
    make_bench: Any, fake_runtime: Any
) -> None:
    async def story(bench: Any, client: Any, clock: Clock) -> None:
        bench.runtime.tell(1, "x")
        client.take(2)
        await turns()
        bench.runtime.fault(1, "lost")
        await turns()
        assert bench.engine.registry.counts().live == 1
        tick(bench, clock, 10)
        await turns()
        assert bench.engine.registry.counts().live == 0

    bench = run(make_bench, fake_runtime, story)
    assert bench.metric("phase5_requests_total", outcome="failed") == 1


def test_a_stream_over_its_time_ends_with_an_error_event_behind_its_text(
    make_bench: Any, fake_runtime: Any
) -> None:
    async def story(bench: Any, client: Any, clock: Clock) -> None:
        client.take(1000)
        bench.runtime.tell(1, "Paris")
        await turns()
        tick(bench, clock, 99.5)
        await turns()
        assert bench.runtime.live
        tick(bench, clock, 0.5)
        await turns()
        assert b'"code":"stream_deadline"' in client.got[-1]
        assert b'"content":"P"' in client.got[1]

    bench = run(make_bench, fake_runtime, story)
    assert bench.metric("phase5_requests_total", outcome="failed") == 1
    assert bench.metric("phase5_streams_overdue_total") == 1
    assert bench.runtime.cancelled == [1]


@asynccontextmanager
async def whole(bench: Any) -> AsyncIterator[asyncio.Task[Any]]:
    async with bench.client() as client:
        yield asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))


def test_a_stream_over_its_time_that_has_sent_nothing_is_a_504(
    make_bench: Any, fake_runtime: Any
) -> None:
    clock = Clock()
    bench = make_bench(SLOW, runtime=fake_runtime(held=True), clocks=clock.clocks())

    async def story() -> None:
        async with whole(bench) as answer:
            await turns()
            bench.runtime.tell(1, "Paris")
            tick(bench, clock, 100)
            response = await answer
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "stream_deadline"

    asyncio.run(story())


def test_the_aggregates_are_served(make_bench: Any, fake_runtime: Any) -> None:
    async def story(bench: Any, client: Any, clock: Clock) -> None:
        client.take(1000)
        before = bench.get_samples("phase5_recent_ttft_seconds")
        assert set(before) == {"0.5", "0.95", "0.99"}
        assert all(value != value for value in before.values())  # noqa: PLR0124 - only NaN differs from itself
        clock.now += 2
        bench.runtime.tell(1, "Paris", "length")
        await turns()
        tick(bench, clock, 5)
        assert bench.get_samples("phase5_recent_ttft_seconds") == dict.fromkeys(before, 2.0)

    bench = run(make_bench, fake_runtime, story)
    assert bench.metric("phase5_recent_tokens_per_second") == 1
    assert bench.metric("phase5_utilisation") == 0
    assert bench.metric("phase5_streams_admitted_total") == 1
    assert bench.metric("phase5_streams_ended_total", kind="completed") == 1
    assert bench.metric("phase5_listener_errors_total") == 0
