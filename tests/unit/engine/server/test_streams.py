import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Where?"}]}
ONE_PLACE = "admission: {limit: 1, queue: 1, deadline_seconds: 30}\n"


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something is so."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


@asynccontextmanager
async def asking(bench: Any, **body: Any) -> AsyncIterator[asyncio.Task[httpx.Response]]:
    async with bench.client() as client:
        yield asyncio.create_task(client.post("/v1/chat/completions", json={**CHAT, **body}))


def outcomes(bench: Any) -> dict[str, float]:
    names = ("ok", "failed", "cut", "shed", "rejected", "cancelled")
    counted = {name: bench.metric("phase5_requests_total", outcome=name) for name in names}
    return {name: count for name, count in counted.items() if count}


def run_held(
    make_bench: Any, fake_runtime: Any, story: Callable[[Any], Awaitable[None]], yaml: str = ""
) -> Any:
    bench = make_bench(yaml or "generation: 1\n", runtime=fake_runtime(held=True))
    asyncio.run(story(bench))
    return bench


def test_a_fault_before_the_first_text_is_a_500(make_bench: Any, fake_runtime: Any) -> None:
    async def story(bench: Any) -> None:
        async with asking(bench, stream=True) as answer:
            await until(lambda: bool(bench.runtime.live))
            bench.runtime.fault(1, "the row was poisoned")
            response = await answer
        assert response.status_code == 500
        assert response.json()["error"]["message"] == "the row was poisoned"

    assert outcomes(run_held(make_bench, fake_runtime, story)) == {"failed": 1}


def test_a_fault_in_the_middle_is_an_error_event_behind_the_text(
    make_bench: Any, fake_runtime: Any
) -> None:
    async def story(bench: Any) -> None:
        async with asking(bench, stream=True) as answer:
            await until(lambda: bool(bench.runtime.live))
            bench.runtime.tell(1, "Pa")
            bench.runtime.fault(1, "lost")
            lines = [line for line in (await answer).text.split("\n\n") if line]
        assert "[DONE]" not in lines[-1]
        assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "stream_failed"
        assert [line for line in lines if '"content":"P"' in line]

    bench = run_held(make_bench, fake_runtime, story)
    assert outcomes(bench) == {"failed": 1}
    assert bench.engine.registry.counts().failed == 1


def test_a_stream_waits_for_a_place_and_one_more_is_shed(
    make_bench: Any, fake_runtime: Any
) -> None:
    async def story(bench: Any) -> None:
        async with asking(bench) as first, asking(bench) as second:
            await until(lambda: bench.engine.dispatcher.queue.waiting == 1)
            async with asking(bench) as third:
                shed = await third
            assert shed.status_code == 429
            assert int(shed.headers["retry-after"]) >= 1
            bench.runtime.tell(1, "one", "length")
            await until(lambda: 2 in bench.runtime.live)
            bench.runtime.tell(2, "two", "length")
            answers = [await first, await second]
        texts = [item.json()["choices"][0]["message"]["content"] for item in answers]
        assert texts == ["one", "two"]

    bench = run_held(make_bench, fake_runtime, story, ONE_PLACE)
    assert outcomes(bench) == {"ok": 2, "shed": 1}
    assert bench.engine.dispatcher.queue.running == 0


def test_a_wait_past_the_deadline_is_a_504_and_frees_the_queue(
    make_bench: Any, fake_runtime: Any
) -> None:
    async def story(bench: Any) -> None:
        async with asking(bench) as first, asking(bench) as second:
            late = await second
            assert late.status_code == 504
            assert bench.engine.dispatcher.queue.waiting == 0
            bench.runtime.tell(1, "one", "length")
            assert (await first).status_code == 200

    yaml = "admission: {limit: 1, queue: 1, deadline_seconds: 0.05}\n"
    assert outcomes(run_held(make_bench, fake_runtime, story, yaml)) == {"ok": 1, "failed": 1}


def test_a_wait_that_missed_the_target_counts_as_slow_however_it_ended(
    make_bench: Any, fake_runtime: Any
) -> None:
    async def story(bench: Any) -> None:
        async with asking(bench) as first, asking(bench) as second:
            await second
            bench.runtime.tell(1, "one", "length")
            await first

    yaml = (
        "admission: {limit: 1, queue: 1, deadline_seconds: 0.05}\ngovernor: {target_ttft_ms: 10}\n"
    )
    bench = run_held(make_bench, fake_runtime, story, yaml)
    assert bench.metric("phase5_time_to_first_token_seconds_count") == 2


def test_a_drain_lets_live_and_waiting_streams_finish(make_bench: Any, fake_runtime: Any) -> None:
    async def story(bench: Any) -> None:
        async with asking(bench) as first, asking(bench) as second:
            await until(lambda: bench.engine.dispatcher.queue.waiting == 1)
            drained = asyncio.create_task(bench.engine.drain(10))
            await until(lambda: bench.engine.dispatcher.draining)
            bench.runtime.tell(1, "one", "length")
            await until(lambda: 2 in bench.runtime.live)
            bench.runtime.tell(2, "two", "length")
            assert await drained
            assert {(await first).status_code, (await second).status_code} == {200}

    assert outcomes(run_held(make_bench, fake_runtime, story, ONE_PLACE)) == {"ok": 2}


def test_a_stream_that_outlives_the_drain_ends_with_an_error_event(
    make_bench: Any, fake_runtime: Any
) -> None:
    async def story(bench: Any) -> None:
        async with asking(bench, stream=True) as answer:
            await until(lambda: bool(bench.runtime.live))
            bench.runtime.tell(1, "Pa")
            assert not await bench.engine.drain(0.01)
            bench.engine.abort()
            assert '"code":"stopped"' in (await answer).text

    bench = run_held(make_bench, fake_runtime, story)
    assert outcomes(bench) == {"failed": 1}
    assert bench.runtime.cancelled == [1]


STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "text", "finish", "fault", "leave"]), st.integers(0, 3)),
    max_size=25,
)


@settings(deadline=None, max_examples=30)  # an engine for each: dear, and no clock to keep
@given(steps=STEPS)
def test_every_admitted_stream_ends_exactly_once(
    steps: list[tuple[str, int]], make_bench_anew: Any, fake_runtime: Any
) -> None:
    bench = make_bench_anew(
        "admission: {limit: 2, queue: 2, deadline_seconds: 30}\n", fake_runtime(held=True)
    )

    async def story() -> None:
        asked = []
        async with bench.client() as client:
            for step, which in steps:
                live = sorted(bench.runtime.live)
                if step == "ask":
                    asking = client.post("/v1/chat/completions", json={**CHAT, "stream": True})
                    asked.append(asyncio.create_task(asking))
                elif step == "leave":
                    bench.leave(which)
                elif live:
                    uid = live[which % len(live)]
                    if step == "fault":
                        bench.runtime.fault(uid, "lost")
                    else:
                        bench.runtime.tell(uid, "ab", "length" if step == "finish" else None)
                for _ in range(20):
                    await asyncio.sleep(0)
            bench.engine.abort()
            # The client in this process takes it ill when a request that it left has no answer.
            await asyncio.gather(*asked, return_exceptions=True)

    asyncio.run(story())
    counts = bench.engine.registry.counts()
    assert counts.live == 0
    assert counts.admitted == counts.completed + counts.failed + counts.cancelled
    asked = sum(step == "ask" for step, _ in steps)
    assert sum(outcomes(bench).values()) == asked
    queue = bench.engine.dispatcher.queue
    assert (queue.running, queue.waiting) == (0, 0)
    assert bench.runtime.live == {}


@pytest.mark.parametrize("text", ["", "Paris"])
def test_a_stream_may_end_with_or_without_text(
    make_bench: Any, fake_runtime: Any, text: str
) -> None:
    async def story(bench: Any) -> None:
        async with asking(bench) as answer:
            await until(lambda: bool(bench.runtime.live))
            if text:
                bench.runtime.tell(1, text)
            bench.runtime.tell(1, "", "stop")
            choice = (await answer).json()["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == (text, "stop")

    assert outcomes(run_held(make_bench, fake_runtime, story)) == {"ok": 1}
