"""One row for each way to be refused: the status, and the field that is named."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
CHAT: dict[str, Any] = {"model": "tiny", "messages": QUESTION}
TEXT: dict[str, Any] = {"model": "tiny", "prompt": "Where?"}
LONG = "x" * 1000
PART = "messages[0].content[0].type"


def chat(**changes: Any) -> dict[str, Any]:
    return {**CHAT, **changes}


def text(**changes: Any) -> dict[str, Any]:
    return {**TEXT, **changes}


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (chat(model="other"), 404, "model"),
        (chat(model=7), 400, "model"),
        ({"messages": QUESTION}, 400, "model"),
        ({"model": "tiny"}, 400, "messages"),
        (chat(messages=[]), 400, "messages"),
        (chat(messages="Where?"), 400, "messages"),
        (chat(messages=[{"content": "hi"}]), 400, "messages[0].role"),
        (chat(messages=[{"role": "user", "content": [{"text": "hi"}]}]), 400, PART),
        (chat(messages=[{"role": "user", "content": ""}]), 400, "messages"),
        (chat(messages=[{"role": "user", "content": LONG}]), 422, "messages"),
        (chat(max_tokens="many"), 400, "max_tokens"),
        (chat(max_tokens=0), 400, "max_tokens"),
        (chat(max_tokens=1.5), 400, "max_tokens"),
        (chat(max_tokens=2**31), 400, "max_tokens"),
        (chat(max_tokens=1000), 422, "max_tokens"),
        (chat(max_completion_tokens=1000), 422, "max_completion_tokens"),
        (chat(max_tokens=1, max_completion_tokens=1000), 422, "max_completion_tokens"),
        (chat(temperature=3), 400, "temperature"),
        (chat(temperature=True), 400, "temperature"),
        (chat(top_p=0), 400, "top_p"),
        (chat(top_k=-1), 400, "top_k"),
        (chat(top_k=10**30), 400, "top_k"),
        (chat(min_p=1.1), 400, "min_p"),
        (chat(seed=2**63), 400, "seed"),
        (chat(seed="7"), 400, "seed"),
        (chat(presence_penalty=2.1), 400, "presence_penalty"),
        (chat(frequency_penalty=-2.1), 400, "frequency_penalty"),
        (chat(repetition_penalty=0), 400, "repetition_penalty"),
        (chat(repetition_penalty=1e-300), 400, "repetition_penalty"),
        (chat(min_tokens=-1), 400, "min_tokens"),
        (chat(n=0), 400, "n"),
        (chat(n=17), 400, "n"),
        (chat(stop=["a"] * 17), 400, "stop"),
        (chat(stop=""), 400, "stop"),
        (chat(stop=["a", ""]), 400, "stop[1]"),
        (chat(stop=[1]), 400, "stop[0]"),
        (chat(logprobs=3), 400, "logprobs"),
        (chat(top_logprobs=3), 400, "top_logprobs"),
        (chat(logprobs=True, top_logprobs=21), 400, "top_logprobs"),
        (chat(stream="yes"), 400, "stream"),
        (chat(stream_options={"usage": True}), 400, "stream_options.usage"),
        (chat(tools=[{"type": "function"}]), 400, "tools"),
        (chat(response_format={"type": "json_object"}), 400, "response_format"),
        (chat(logit_bias={"5": 1}), 400, "logit_bias"),
        (chat(tempperature=1), 400, "tempperature"),
        (text(prompt=""), 400, "prompt"),
        (text(prompt=[]), 400, "prompt"),
        (text(prompt=None), 400, "prompt"),
        (text(prompt=["a", "b"]), 400, "prompt"),
        (text(prompt=[1, "a"]), 400, "prompt"),
        (text(prompt=[256]), 400, "prompt"),
        (text(prompt=[-1]), 400, "prompt"),
        (text(prompt=[10**30]), 400, "prompt[0]"),
        (text(prompt=LONG), 422, "prompt"),
        (text(prompt=[1] * 1000), 422, "prompt"),
        (text(logprobs=6), 400, "logprobs"),
        (text(logprobs=True), 400, "logprobs"),
        (text(echo=True), 400, "echo"),
        (text(echo=0), 400, "echo"),
        (text(best_of=2), 400, "best_of"),
        (text(suffix="."), 400, "suffix"),
    ],
)
def test_a_mistake_is_refused_with_its_field(
    make_bench: Any, body: Any, status: Any, param: Any
) -> None:
    bench = make_bench()
    path = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
    answer = bench.post(path, **body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param)
    assert error["message"]
    assert bench.runtime.submitted == []
    assert bench.metric("phase5_requests_total", outcome="rejected") == 1


def raw(member: bytes) -> bytes:
    return json.dumps(CHAT).encode()[:-1] + b", " + member + b"}"


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[1]", None),
        (b'{"model": "\xff"}', None),
        (raw(b'"temperature": NaN'), "temperature"),
        (raw(b'"top_p": Infinity'), "top_p"),
        (raw(b'"seed": 1e999'), "seed"),
        (raw(b'"seed": ' + b"9" * 5000), "seed"),
        (raw(b'"user": "a", "user": "b"'), "user"),
        (raw(b'"user": "\\ud800"'), "user"),
        (raw(b'"stop": ["\\u0000"]'), "stop[0]"),
        (raw(b'"metadata": ' + b"[" * 50 + b"]" * 50), "metadata"),
        (raw(b'"metadata": ' + b"[" * 90_000 + b"]" * 90_000), None),
    ],
)
def test_a_body_that_cannot_be_understood_is_refused(
    make_bench: Any, content: bytes, param: str | None
) -> None:
    answer = make_bench().post(content=content)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_body_over_the_limit_is_refused_announced_or_not(make_bench: Any) -> None:
    bench = make_bench("server: {max_body_bytes: 100}\n")
    assert bench.post(content=b"x" * 101).status_code == 413

    async def unannounced() -> httpx.Response:
        async def parts() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"x" * 10

        async with bench.client() as client:
            return await client.post("/v1/chat/completions", content=parts())

    assert asyncio.run(unannounced()).status_code == 413


@pytest.mark.parametrize("length", ["101", "9" * 30, "9" * 5000])
def test_an_announcement_is_enough(make_bench: Any, length: str) -> None:
    bench = make_bench("server: {max_body_bytes: 100}\n")
    answer = bench.post(content=b"{}", headers={"content-length": length})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("GET", "/v1/chat/completions", 405, "POST"),
        ("DELETE", "/v1/models", 405, "GET, HEAD"),
        ("PATCH", "/admin/drain", 405, "POST"),
        ("OPTIONS", "/v1/completions", 405, "POST"),
        ("GET", "/", 404, None),
        ("GET", "/v1/models/", 404, None),
        ("POST", "/v1/embeddings", 404, None),
    ],
)
def test_unknown_routes_and_methods_have_the_same_error_object(
    make_bench: Any, method: str, path: str, status: int, allowed: str | None
) -> None:
    bench = make_bench()

    async def ask() -> httpx.Response:
        async with bench.client() as client:
            return await client.request(method, path)

    answer = asyncio.run(ask())
    assert answer.status_code == status
    found = answer.headers.get("allow")
    assert (found and set(found.split(", "))) == (allowed and set(allowed.split(", ")))
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


def test_a_fault_outside_of_the_generating_routes_has_it_too(
    make_bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench()
    monkeypatch.delattr(bench.engine, "model")
    answer = bench.get("/v1/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
