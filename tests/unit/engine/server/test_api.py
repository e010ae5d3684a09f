import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
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
    usage = events(answer.text)[-2]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len("Paris it is.") + 1


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
    assert names == ["tokenise", "queue", "prefill", "first_token"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"model": "other", "messages": QUESTION}, 404, "model"),
        ({"model": "tiny"}, 400, "messages"),
        ({**CHAT, "messages": []}, 400, "messages"),
        ({**CHAT, "messages": [{"content": "hi"}]}, 400, "messages[0].role"),
        ({**CHAT, "max_tokens": "many"}, 400, "max_tokens"),
        ({**CHAT, "max_tokens": 0}, 400, "max_tokens"),
        ({**CHAT, "temperature": 3}, 400, "temperature"),
        ({**CHAT, "n": 17}, 400, "n"),
        ({**CHAT, "tools": [{"type": "function"}]}, 400, "tools"),
        ({**CHAT, "tempperature": 1}, 400, "tempperature"),
        ({**CHAT, "stream_options": {"usage": True}}, 400, "stream_options.usage"),
        ({**CHAT, "stop": ["a"] * 17}, 400, "stop"),
        ({**CHAT, "max_tokens": 1000}, 422, "max_tokens"),
        ({**CHAT, "messages": [{"role": "user", "content": "x" * 1000}]}, 422, "messages"),
    ],
)
def test_a_mistake_is_refused_with_its_field(
    make_bench: Any, body: Any, status: Any, param: Any
) -> None:
    bench = make_bench()
    answer = bench.post(**body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert bench.runtime.submitted == []
    assert bench.metric("phase5_requests_total", outcome="rejected") == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"model": "\xff"}'])
def test_a_body_that_is_not_a_json_object_is_refused(make_bench: Any, content: Any) -> None:
    answer = make_bench().post(content=content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


def test_a_body_over_the_limit_is_refused(make_bench: Any) -> None:
    bench = make_bench("server: {max_body_bytes: 100}\n")
    assert bench.post(content=b"x" * 101).status_code == 413

    async def unannounced() -> httpx.Response:
        async def parts() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"x" * 10

        async with bench.client() as client:
            return await client.post("/v1/chat/completions", content=parts())

    assert asyncio.run(unannounced()).status_code == 413


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
