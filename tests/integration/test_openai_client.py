"""The official client against a real engine."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

#: Far above what a start takes; a machine under load must not fail the tests.
PATIENCE = 120.0
KEY = "for this test only"
#: Five choices at once find no place.
CONFIG = "admission: {limit: 4, queue: 0}\nserver: {log_format: json}\n"
CHAT: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "Where is Paris?"}],
    "max_tokens": 12,
    "temperature": 1,
    "seed": 7,
}
TEXT: dict[str, Any] = {"model": "tiny", "prompt": "Once", "max_tokens": 12}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("engine")
    config, log = folder / "runtime.yaml", folder / "stderr"
    config.write_text(CONFIG)
    command = [sys.executable, "-P", "-m", "pytest_phase5.cli", "serve", "--model", "tiny"]
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [*command, "--port", "0", "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, "PHASE5_API_KEYS": f"another,{KEY}"},
        ) as process,
    ):
        assert process.stdout is not None
        try:
            assert select.select([process.stdout], [], [], PATIENCE)[0], "the engine said nothing"
            yield process.stdout.readline().removeprefix("ready ").strip()
        finally:
            process.terminate()
    check_log(log.read_text())


def check_log(text: str) -> None:
    """One object a line, of every request, without anything that was asked or any key."""
    lines = [json.loads(line) for line in text.splitlines()]
    accesses = [line for line in lines if line["logger"] == "engine.access"]
    assert {line["outcome"] for line in accesses} == {"ok", "rejected", "shed"}
    assert len({line["request_id"] for line in accesses}) == len(accesses)
    assert "Paris" not in text
    assert KEY not in text


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=PATIENCE) as client:
        yield client


def streamed(chunks: Any) -> tuple[dict[int, str], dict[int, list[str]], Any]:
    """The text and the tokens of each choice, and the counts."""
    texts: dict[int, str] = {}
    tokens: dict[int, list[str]] = {}
    usage = None
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            delta = choice.delta.content or "" if hasattr(choice, "delta") else choice.text
            texts[choice.index] = texts.get(choice.index, "") + delta
            if choice.logprobs is not None:
                found = getattr(choice.logprobs, "content", None)
                new = choice.logprobs.tokens if found is None else [item.token for item in found]
                tokens.setdefault(choice.index, []).extend(new)
    return texts, tokens, usage


def test_the_model_is_listed(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_two_chat_answers_whole_and_streamed(client: OpenAI) -> None:
    one = client.chat.completions.create(**CHAT)
    two = client.chat.completions.create(**CHAT, n=2)
    texts = [choice.message.content for choice in two.choices]
    assert texts[0] == one.choices[0].message.content != texts[1]
    assert [choice.finish_reason for choice in two.choices] == ["length", "length"]
    assert one.usage is not None
    assert two.usage is not None
    assert two.usage.prompt_tokens == one.usage.prompt_tokens
    assert two.usage.completion_tokens == 24
    stream = client.chat.completions.create(
        **CHAT, n=2, stream=True, stream_options={"include_usage": True}
    )
    live, _, usage = streamed(stream)
    assert live == dict(enumerate(texts))
    assert usage == two.usage


def test_log_probabilities_of_a_chat(client: OpenAI) -> None:
    asked = {**CHAT, "logprobs": True, "top_logprobs": 3}
    choice = client.chat.completions.create(**asked).choices[0]
    assert choice.logprobs is not None
    content = choice.logprobs.content or []
    assert len(content) == 12
    assert b"".join(bytes(item.bytes or []) for item in content).decode() == choice.message.content
    for item in content:
        assert item.logprob <= 0
        best = [top.logprob for top in item.top_logprobs]
        assert best == sorted(best, reverse=True)
        assert len(best) == 3
        assert item.logprob <= best[0]
    texts, tokens, _ = streamed(client.chat.completions.create(**asked, stream=True))
    assert texts[0] == choice.message.content
    assert tokens[0] == [item.token for item in content]


def test_log_probabilities_of_a_completion_end_with_a_stop_string(client: OpenAI) -> None:
    full = client.completions.create(**TEXT, logprobs=2).choices[0]
    assert full.logprobs is not None
    names = full.logprobs.tokens or []
    assert full.logprobs.text_offset == [0, *accumulate(map(len, names))][:-1]
    stop = names[5][-1] + names[6]  # over the border of two tokens
    cut = client.completions.create(**TEXT, logprobs=2, stop=stop).choices[0]
    assert cut.finish_reason == "stop"
    assert cut.text == full.text[: full.text.index(stop)]
    assert cut.logprobs is not None
    kept = cut.logprobs.tokens or []
    assert kept == names[: len(kept)]
    assert len("".join(kept[:-1])) < len(cut.text) <= len("".join(kept))
    stream = client.completions.create(**TEXT, logprobs=2, stop=stop, stream=True)
    assert streamed(stream)[:2] == ({0: cut.text}, {0: kept})


@pytest.mark.parametrize(
    ("changes", "error", "param"),
    [
        ({"temperature": 3}, openai.BadRequestError, "temperature"),
        ({"model": "other"}, openai.NotFoundError, "model"),
        ({"max_tokens": 8192}, openai.UnprocessableEntityError, "max_tokens"),
        ({"n": 5}, openai.RateLimitError, None),
    ],
)
def test_errors_are_the_clients_own_exceptions(
    client: OpenAI, changes: Any, error: type[openai.APIStatusError], param: str | None
) -> None:
    with pytest.raises(error) as caught:
        client.chat.completions.create(**{**CHAT, **changes})
    assert caught.value.param == param


def test_a_wrong_key_is_an_authentication_error(url: str) -> None:
    with OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError, match="API keys"):
            client.chat.completions.create(**CHAT)
        with pytest.raises(openai.AuthenticationError, match="API keys"):
            client.models.list()


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit_is_answered_and_not_cut_off(url: str, announced: bool) -> None:
    size, part = 8 * 1024 * 1024, b"x" * 65_536
    content = part * (size // len(part)) if announced else iter([part] * (size // len(part)))
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(timeout=PATIENCE) as client:
        answer = client.post(f"{url}/v1/completions", content=content, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
