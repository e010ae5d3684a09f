import asyncio
import json
import threading
from typing import Any

import pytest

from engine.core.flags import FLAGS, joined, parse_flag_set

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
CHAT: dict[str, Any] = {"model": "tiny", "messages": QUESTION}


def events(body: str) -> list[Any]:
    """The data of each server-sent event; the end mark as text."""
    data = [line.removeprefix("data: ") for line in body.split("\n\n") if line]
    return [item if item == "[DONE]" else json.loads(item) for item in data]


def test_a_chat_completion_has_text_reason_and_counts(make_bench: Any) -> None:
    answer = make_bench().post(**CHAT)
    assert answer.status_code == 200
    body = answer.json()
    assert body["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Paris it is.",
        "refusal": None,
    }
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["prompt_tokens"] == len(QUESTION[0]["content"])
    assert body["usage"]["completion_tokens"] == len("Paris it is.") + 1
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}


def test_a_streamed_chat_sends_role_text_reason_and_end(make_bench: Any) -> None:
    answer = make_bench().post(**CHAT, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    role, *texts, last, done = events(answer.text)
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in texts) == "Paris it is."
    assert last["choices"][0]["finish_reason"] == "stop"
    assert done == "[DONE]"


def test_usage_comes_in_its_own_chunk_when_asked_for(make_bench: Any) -> None:
    answer = make_bench().post(**CHAT, stream=True, stream_options={"include_usage": True})
    *others, usage, _ = events(answer.text)
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len("Paris it is.") + 1
    assert {chunk["usage"] for chunk in others} == {None}


def test_usage_is_not_named_where_nobody_asked(make_bench: Any) -> None:
    chunks = events(make_bench().post(**CHAT, stream=True).text)[:-1]
    assert [chunk for chunk in chunks if "usage" in chunk] == []


def test_a_completion_ends_at_max_tokens(make_bench: Any) -> None:
    body = {"model": "tiny", "prompt": "Where?", "max_tokens": 5}
    answer = make_bench().post("/v1/completions", **body).json()
    assert answer["choices"][0]["text"] == "Paris"
    assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_the_stream_and_frees_its_row(make_bench: Any, stream: Any) -> None:
    bench = make_bench()
    answer = bench.post(**CHAT, stop=["it is"], stream=stream)
    if stream:
        chunks = [item for item in events(answer.text)[1:-1] if item["choices"]]
        text = "".join(item["choices"][0]["delta"].get("content", "") for item in chunks)
        reason = chunks[-1]["choices"][0]["finish_reason"]
    else:
        text = answer.json()["choices"][0]["message"]["content"]
        reason = answer.json()["choices"][0]["finish_reason"]
    assert (text, reason) == ("Paris ", "stop")
    assert bench.runtime.live == {}
    assert bench.metric("phase5_requests_total", outcome="ok") == 1


def test_stop_strings_wait_for_min_tokens(make_bench: Any) -> None:
    answer = make_bench().post(**CHAT, stop="a", min_tokens=3).json()
    assert answer["choices"][0]["message"]["content"] == "Paris it is."


@pytest.mark.parametrize(
    ("flags", "shown"),
    [("off", "off"), ("all", joined(FLAGS)), ("ttft_pipeline", "ttft_pipeline")],
)
def test_the_flags_of_a_stream_show_in_its_header_and_its_metrics(
    make_bench: Any, flags: Any, shown: Any
) -> None:
    bench = make_bench(flags=parse_flag_set(flags))
    answer = bench.post(**CHAT)
    assert answer.headers["x-phase5-flags"] == shown
    labels = {flag: "on" if flag in shown else "off" for flag in FLAGS}
    for name in ("requests_total", "time_to_first_token_seconds_count", "output_tokens_total"):
        assert bench.metric(f"phase5_{name}", **labels) == bench.metric(f"phase5_{name}") > 0


def test_the_pipeline_lets_its_streams_reuse_prefixes(make_bench: Any) -> None:
    for flags, reuse in (("off", False), ("ttft_pipeline", True)):
        bench = make_bench(flags=parse_flag_set(flags))
        bench.post(**CHAT)
        assert bench.runtime.submitted[0].reuse_prefix is reuse


def test_the_same_conversation_stays_in_its_arm(make_bench: Any) -> None:
    half = "phase4_rollout:\n  ttft_pipeline: {enabled: true, rollout_percentage: 50}\n"
    bench = make_bench(half, flags=None)
    longer = [*QUESTION, {"role": "assistant", "content": "Paris"}, *QUESTION]
    seen = {
        bench.post(model="tiny", messages=turns).headers["x-phase5-flags"]
        for turns in (QUESTION, longer, QUESTION)
    }
    assert len(seen) == 1
    keys = [{"x-phase5-key": str(number)} for number in range(40)]
    arms = {bench.post(**CHAT, headers=key).headers["x-phase5-flags"] for key in keys}
    assert arms == {"off", "ttft_pipeline"}


def test_a_request_id_is_kept_when_it_is_safe(make_bench: Any) -> None:
    bench = make_bench()
    kept = bench.post(**CHAT, headers={"x-request-id": "abc-1"})
    assert kept.headers["x-request-id"] == "abc-1"
    drawn = bench.post(**CHAT, headers={"x-request-id": "no spaces"})
    assert drawn.headers["x-request-id"] != "no spaces"


def test_server_timing_tells_the_parts_of_the_wait(make_bench: Any) -> None:
    timing = make_bench().post(**CHAT, stream=True).headers["server-timing"]
    names = [part.partition(";")[0] for part in timing.split(", ")]
    assert names == ["tokenise", "queue", "lookup", "prefill", "decode", "first_token"]


def test_without_a_ready_replica_a_request_fails(make_bench: Any) -> None:
    bench = make_bench()
    bench.runtime.ready = False
    answer = bench.post(**CHAT)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert bench.metric("phase5_requests_total", outcome="failed") == 1


def test_while_draining_a_request_is_shed(make_bench: Any) -> None:
    bench = make_bench()
    bench.engine.dispatcher.draining = True
    answer = bench.post(**CHAT)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert bench.metric("phase5_requests_total", outcome="shed") == 1
    assert bench.get("/readyz").status_code == 503
    assert bench.get("/livez").status_code == 200


def test_a_long_prompt_is_tokenised_beside_the_loop(make_bench: Any) -> None:
    bench = make_bench()
    loop_turned = threading.Event()

    class Slow(type(bench.engine.codec)):  # type: ignore[misc] # known only here
        context_length = 200_000

        def encode(self, text: str) -> list[int]:
            assert loop_turned.wait(30), "the loop stood still"
            return [1] * len(text)

    bench.engine.codec = Slow()

    async def ask() -> int:
        body = {"model": "tiny", "prompt": "x" * 100_000, "max_tokens": 2}
        async with bench.client() as client:
            asked = asyncio.create_task(client.post("/v1/completions", json=body))
            asyncio.get_running_loop().call_later(0.01, loop_turned.set)
            return (await asked).json()["usage"]["prompt_tokens"]

    assert asyncio.run(ask()) == 100_000
