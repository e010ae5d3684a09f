"""What a stream's wait consists of, and what the runtime is told of those that wait.

Case D19 of the engine's prior art: what the pipeline found was looked up, returned and dropped,
and its own report of a first token went into a log.
"""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.flags import TTFT_PIPELINE
from engine.runtime.messages import Prefill
from engine.server.stages import STAGES
from engine.server.streams import Times

CHAT: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "system", "content": "Rhyme."}, {"role": "user", "content": "Where?"}],
}
ONE_PLACE = "admission: {limit: 1, queue: 5, deadline_seconds: 30}\n"


@given(st.lists(st.floats(0, 100), min_size=6, max_size=6))
def test_the_stages_add_up_to_the_time_to_first_token(given: list[float]) -> None:
    times = Times(0.0)
    at = 0.0
    names = ("tokenised", "submitted", "looked_up", "prefilled", "first_text")
    for name, seconds in zip(names, given, strict=False):
        at += seconds
        setattr(times, name, at)
    spans = dict(times.spans())
    assert tuple(spans) == (*STAGES, "first_token")
    assert sum(spans[name] for name in STAGES) == pytest.approx(spans["first_token"])


def test_every_stage_and_token_of_a_served_stream_is_counted_in_its_arm(make_bench: Any) -> None:
    bench = make_bench(flags=frozenset({TTFT_PIPELINE}))
    assert bench.metric("phase5_ttft_stage_seconds_count") == 0
    bench.post(**CHAT)
    for stage in STAGES:
        count = "phase5_ttft_stage_seconds_count"
        assert bench.metric(count, stage=stage, ttft_pipeline="on") == 1
        assert bench.metric(count, stage=stage, ttft_pipeline="off") == 0
    assert bench.metric("phase5_prompt_tokens_total", source="computed", ttft_pipeline="on") == 12
    assert bench.metric("phase5_prompt_tokens_total", source="cached") == 0


def test_the_time_until_a_stream_has_a_row_is_its_lookup(
    make_bench: Any, fake_runtime: Any
) -> None:
    async def story(bench: Any) -> str:
        async with bench.client() as client:
            asked = asyncio.create_task(
                client.post("/v1/chat/completions", json={**CHAT, "stream": True})
            )
            while not bench.runtime.live:  # noqa: ASYNC110  # it has no event
                await asyncio.sleep(0)
            bench.runtime.live[1].on_prefill(Prefill(1, 12, 12, 0, 0.0))
            bench.runtime.tell(1, "Here.", "stop")
            return str((await asked).headers["server-timing"])

    timing = asyncio.run(story(make_bench(runtime=fake_runtime(held=True))))
    assert "lookup;dur=0.0" in timing


async def queued(bench: Any, count: int) -> list["asyncio.Task[Any]"]:
    """So many requests of which one runs and the others wait."""
    client = bench.client()
    tasks = [
        asyncio.create_task(client.post("/v1/chat/completions", json=CHAT)) for _ in range(count)
    ]
    while len(bench.engine.dispatcher.streams) < count:  # noqa: ASYNC110  # it has no event
        await asyncio.sleep(0)
    return tasks


def test_a_waiting_stream_of_the_treatment_is_announced_with_its_turns(
    make_bench: Any, fake_runtime: Any
) -> None:
    async def story(bench: Any) -> None:
        tasks = await queued(bench, 2)
        ((uid, (message, on_known)),) = bench.runtime.warmed.items()
        assert (uid, message.seconds, message.checkpoints) == (2, 30, [6])
        on_known(11)
        assert bench.engine.dispatcher.queue._waiting[2].prompt_tokens == 1
        bench.runtime.tell(1, "Here.", "stop")
        while 2 not in bench.runtime.live:  # noqa: ASYNC110  # it has no event
            await asyncio.sleep(0)
        assert bench.runtime.submitted[-1].checkpoints == [6]
        bench.runtime.live[2].on_prefill(Prefill(2, 12, 12, 11, 0.0))
        bench.runtime.tell(2, "Here.", "stop")
        await asyncio.gather(*tasks)

    bench = make_bench(ONE_PLACE, flags=frozenset({TTFT_PIPELINE}), runtime=fake_runtime(held=True))
    asyncio.run(story(bench))
    assert bench.metric("phase5_warm_streams_total", found="hit") == 1
    assert bench.metric("phase5_warm_streams_total", found="miss") == 0
    assert bench.metric("ttft_pipeline_hits") == 0.5
    assert bench.runtime.warmed == {}


def test_a_control_stream_that_waits_is_not_announced(make_bench: Any, fake_runtime: Any) -> None:
    async def story(bench: Any) -> None:
        tasks = await queued(bench, 2)
        assert bench.runtime.warmed == {}
        assert bench.runtime.submitted[0].checkpoints == []
        bench.runtime.tell(1, "Here.", "stop")
        while 2 not in bench.runtime.live:  # noqa: ASYNC110  # it has no event
            await asyncio.sleep(0)
        bench.runtime.tell(2, "Here.", "stop")
        await asyncio.gather(*tasks)

    asyncio.run(story(make_bench(ONE_PLACE, runtime=fake_runtime(held=True))))


def test_a_waiting_stream_whose_client_leaves_is_forgotten(
    make_bench: Any, fake_runtime: Any
) -> None:
    async def story(bench: Any) -> None:
        tasks = await queued(bench, 2)
        assert list(bench.runtime.warmed) == [2]
        bench.leave(1)
        while 2 in bench.engine.dispatcher.streams:  # noqa: ASYNC110  # it has no event
            await asyncio.sleep(0)
        assert bench.runtime.warmed == {}
        bench.runtime.tell(1, "Here.", "stop")
        await asyncio.gather(*tasks, return_exceptions=True)

    bench = make_bench(ONE_PLACE, flags=frozenset({TTFT_PIPELINE}), runtime=fake_runtime(held=True))
    asyncio.run(story(bench))
