import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from engine.server.choices import READER
from engine.server.streams import ClientGone

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Where?"}]}
TEXT: dict[str, Any] = {"model": "tiny", "prompt": "Where?"}


def events(body: str) -> list[Any]:
    data = [line.removeprefix("data: ") for line in body.split("\n\n") if line]
    return [json.loads(item) for item in data if item != "[DONE]"]


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something is so."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


def tell(
    bench: Any, story: Callable[[Any, "asyncio.Task[Any]"], Awaitable[None]], **body: Any
) -> Any:
    """Run a story beside one request; returns its answer."""

    async def run() -> Any:
        async with bench.client() as client:
            asked = asyncio.create_task(client.post("/v1/chat/completions", json={**CHAT, **body}))
            await story(bench, asked)
            return (await asyncio.gather(asked, return_exceptions=True))[0]

    return asyncio.run(run())


def outcomes(bench: Any) -> dict[str, float]:
    names = ("ok", "failed", "cut", "shed", "rejected", "cancelled")
    counted = {name: bench.metric("phase5_requests_total", outcome=name) for name in names}
    return {name: count for name, count in counted.items() if count}


def test_each_choice_has_its_own_seed_and_the_first_has_the_one_given(make_bench: Any) -> None:
    bench = make_bench()
    bench.post(**CHAT, seed=7, n=3)
    bench.post(**CHAT, seed=7, n=3)
    bench.post(**CHAT, seed=8, n=3)
    seeds = [request.seed for request in bench.runtime.submitted]
    assert seeds[0] == 7
    assert seeds[:3] == seeds[3:6]
    assert len(set(seeds)) == 6


@pytest.mark.parametrize("stream", [False, True])
def test_the_counts_are_of_all_choices_and_the_prompt_counts_once(
    make_bench: Any, stream: bool
) -> None:
    bench = make_bench()
    body = {**CHAT, "n": 3, "max_tokens": 5, "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    answer = bench.post(**body)
    usage = (events(answer.text)[-1] if stream else answer.json())["usage"]
    assert usage == {
        "prompt_tokens": 6,
        "completion_tokens": 15,
        "total_tokens": 21,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    assert outcomes(bench) == {"ok": 1}
    assert bench.engine.registry.counts().completed == 3


def test_each_choice_streams_under_its_index(make_bench: Any, fake_runtime: Any) -> None:
    async def story(bench: Any, _: Any) -> None:
        await until(lambda: len(bench.runtime.live) == 2)
        bench.runtime.tell(2, "two")
        bench.runtime.tell(1, "one", "length")
        bench.runtime.tell(2, "!", "stop")

    bench = make_bench(runtime=fake_runtime(held=True))
    chunks = events(tell(bench, story, n=2, stream=True).text)
    texts, ends = {0: "", 1: ""}, {}
    for choice in (chunk["choices"][0] for chunk in chunks):
        texts[choice["index"]] += choice["delta"].get("content", "")
        if choice["finish_reason"]:
            ends[choice["index"]] = choice["finish_reason"]
    assert texts == {0: "one", 1: "two"}
    assert ends == {0: "length", 1: "stop"}
    roles = [chunk["choices"][0]["index"] for chunk in chunks[:2]]
    assert roles == [0, 1]


TWO_PLACES = "admission: {limit: 2, queue: 1, deadline_seconds: 30}\n"


def test_without_room_for_all_choices_none_is_admitted(make_bench: Any, fake_runtime: Any) -> None:
    bench = make_bench(TWO_PLACES, runtime=fake_runtime(held=True))
    answer = bench.post(**CHAT, n=4)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert bench.runtime.submitted == []
    queue = bench.engine.dispatcher.queue
    assert (queue.running, queue.waiting) == (0, 0)
    assert bench.engine.registry.counts().admitted == 0


def test_a_choice_may_wait_for_its_place(make_bench: Any, fake_runtime: Any) -> None:
    async def story(bench: Any, _: Any) -> None:
        await until(lambda: bench.engine.dispatcher.queue.waiting == 1)
        bench.runtime.tell(1, "one", "length")
        bench.runtime.tell(2, "two", "length")
        await until(lambda: 3 in bench.runtime.live)
        bench.runtime.tell(3, "three", "length")

    bench = make_bench(TWO_PLACES, runtime=fake_runtime(held=True))
    texts = [item["message"]["content"] for item in tell(bench, story, n=3).json()["choices"]]
    assert texts == ["one", "two", "three"]


@pytest.mark.parametrize("stream", [False, True])
def test_one_that_fails_ends_the_answer_and_cancels_the_others(
    make_bench: Any, fake_runtime: Any, stream: bool
) -> None:
    async def story(bench: Any, _: Any) -> None:
        await until(lambda: len(bench.runtime.live) == 3)
        bench.runtime.tell(1, "done", "length")
        bench.runtime.tell(3, "half")
        bench.runtime.fault(2, "lost")

    bench = make_bench(runtime=fake_runtime(held=True))
    answer = tell(bench, story, n=3, stream=stream)
    if stream and answer.status_code == 200:
        assert "[DONE]" not in answer.text
        assert events(answer.text)[-1]["error"]["code"] == "stream_failed"
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "stream_failed")
    counts = bench.engine.registry.counts()
    # Which had its end when the fault came is up to the loop.
    assert (counts.failed, counts.completed + counts.cancelled, counts.live) == (1, 2, 0)
    assert bench.runtime.live == {}
    assert outcomes(bench) == {"failed": 1}


def test_a_client_that_leaves_cancels_all(make_bench: Any, fake_runtime: Any) -> None:
    async def story(bench: Any, _: Any) -> None:
        await until(lambda: len(bench.runtime.live) == 3)
        bench.runtime.tell(2, "half")
        bench.leave(1)

    bench = make_bench(runtime=fake_runtime(held=True))
    tell(bench, story, n=3)
    counts = bench.engine.registry.counts()
    assert (counts.cancelled, counts.live) == (3, 0)
    assert sorted(bench.runtime.cancelled) == [1, 2, 3]
    assert outcomes(bench) == {"cancelled": 1}


def test_a_send_that_fails_leaves_no_reader_behind(make_bench: Any, fake_runtime: Any) -> None:
    bench = make_bench(runtime=fake_runtime(held=True))

    async def story() -> set[str]:
        body = json.dumps({**CHAT, "n": 3, "stream": True}).encode()
        messages = iter([{"type": "http.request", "body": body}])

        async def receive() -> Any:
            return next(messages, None) or await asyncio.Event().wait()

        async def send(_: Any) -> None:
            raise ClientGone

        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/chat/completions",
            "headers": [],
            "client": ("127.0.0.1", 5),
        }
        served = asyncio.create_task(bench.app(scope, receive, send))
        await until(lambda: len(bench.runtime.live) == 3)
        bench.runtime.tell(2, "half")
        assert READER in {task.get_name() for task in asyncio.all_tasks()}
        await served
        return {task.get_name() for task in asyncio.all_tasks()}

    assert READER not in asyncio.run(story())
    assert outcomes(bench) == {"cancelled": 1}
    assert bench.engine.registry.counts().live == 0


def test_log_probabilities_of_a_chat(make_bench: Any) -> None:
    body = {**CHAT, "max_tokens": 2, "logprobs": True, "top_logprobs": 2}
    content = make_bench().post(**body).json()["choices"][0]["logprobs"]["content"]
    assert content[0] == {
        "token": "P",
        "logprob": -0.5,
        "bytes": [80],
        "top_logprobs": [
            {"token": "P", "logprob": -0.5, "bytes": [80]},
            {"token": "Q", "logprob": -1.5, "bytes": [81]},
        ],
    }
    assert [item["token"] for item in content] == ["P", "a"]
    chunks = events(make_bench().post(**body, stream=True).text)
    parts = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert [part["content"] for part in parts if part] == [[item] for item in content]


def test_log_probabilities_of_a_completion(make_bench: Any) -> None:
    body = {**TEXT, "max_tokens": 2, "logprobs": 1}
    legacy = make_bench().post("/v1/completions", **body).json()["choices"][0]["logprobs"]
    assert legacy == {
        "tokens": ["P", "a"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"P": -0.5}, {"a": -0.5}],
        "text_offset": [0, 1],
    }


@pytest.mark.parametrize(("asked", "wanted"), [({}, None), ({"logprobs": True}, 0)])
def test_the_runtime_computes_log_probabilities_only_when_asked(
    make_bench: Any, asked: Any, wanted: int | None
) -> None:
    bench = make_bench()
    choice = bench.post(**CHAT, **asked).json()["choices"][0]
    assert bench.runtime.submitted[0].logprobs == wanted
    assert (choice["logprobs"] is None) == (wanted is None)


def test_a_stop_string_cuts_log_probabilities_too(make_bench: Any) -> None:
    answer = make_bench().post(**CHAT, stop="it is", logprobs=True).json()["choices"][0]
    names = "".join(item["token"] for item in answer["logprobs"]["content"])
    assert names == answer["message"]["content"] == "Paris "


def test_too_cold_a_temperature_is_greedy(make_bench: Any) -> None:
    bench = make_bench()
    bench.post(**CHAT, temperature=1e-300)
    bench.post(**CHAT, temperature=0.01)
    assert [request.sampling.temperature for request in bench.runtime.submitted] == [0.0, 0.01]
