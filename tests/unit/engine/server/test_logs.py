import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from engine.server import logs

SECRET = "the secret of the prompt"  # noqa: S105 - what must not be logged
KEY = "the-secret-key"
CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": SECRET}]}


class Written:
    """What the engine logs, in the form that is set."""

    def __init__(self, handler: logging.StreamHandler[io.StringIO]) -> None:
        self._handler = handler

    def as_(self, form: Literal["text", "json"]) -> None:
        logs.set_format(self._handler, form)

    @property
    def text(self) -> str:
        return self._handler.stream.getvalue()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def accesses(self) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["logger"] == "engine.access"]


def fail() -> None:
    raise ValueError(SECRET)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    handler = logging.StreamHandler(io.StringIO())
    root = logging.getLogger()
    root.addHandler(handler)
    engine = logging.getLogger("engine")
    levels = engine.level, logs.access.level
    engine.setLevel(logging.INFO)
    monkeypatch.delenv("PHASE5_API_KEYS", raising=False)
    yield Written(handler)
    root.removeHandler(handler)
    engine.setLevel(levels[0])
    logs.access.setLevel(levels[1])


def test_each_generating_request_has_one_line(make_bench: Any, written: Written) -> None:
    written.as_("json")
    bench = make_bench(flags=frozenset({"ttft_pipeline"}))
    bench.post(**CHAT, headers={"x-request-id": "mine"}, n=2, max_tokens=3)
    bench.post(**CHAT, headers={"x-request-id": "wrong"}, temperature=9)
    bench.get("/v1/status")
    first, second = written.accesses()
    assert first.pop("time").endswith("+00:00")
    assert 0 <= first.pop("ttft_ms") <= first.pop("duration_ms")
    assert first == {
        "level": "info",
        "logger": "engine.access",
        "message": "request",
        "request_id": "mine",
        "route": "/v1/chat/completions",
        "status": 200,
        "outcome": "ok",
        "flags": "ttft_pipeline",
        "protocol": "http1",
        "prompt_tokens": len(SECRET),
        "output_tokens": 6,
        "cached_tokens": 0,
    }
    assert (second["request_id"], second["status"]) == ("wrong", 400)
    assert (second["outcome"], second["ttft_ms"], second["output_tokens"]) == ("rejected", None, 0)


def test_for_a_person_there_are_no_such_lines(make_bench: Any, written: Written) -> None:
    written.as_("text")
    make_bench().post(**CHAT)
    assert written.text == ""


def test_a_line_knows_its_request_only_while_it_is_served(
    make_bench: Any, written: Written
) -> None:
    written.as_("json")
    bench = make_bench()
    bench.post(**CHAT, headers={"x-request-id": "mine"})
    logging.getLogger("engine.server").warning("between requests")
    assert "request_id" not in written.lines()[-1]


class Broken:
    """Fails as code of others may: with the prompt in its message."""

    context_length = 1000
    vocab_size = 256

    def encode_chat(self, messages: list[dict[str, str]]) -> list[int]:
        raise ValueError(f"cannot encode {messages}")


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_prompt_and_no_key_is_ever_logged(
    make_bench: Any, written: Written, monkeypatch: pytest.MonkeyPatch, form: Any
) -> None:
    written.as_(form)
    monkeypatch.setenv("PHASE5_API_KEYS", KEY)
    bench = make_bench()
    good = {"authorization": f"Bearer {KEY}"}
    assert bench.post(**CHAT, headers=good).status_code == 200
    assert bench.post(**CHAT, headers={"authorization": f"Basic {KEY}"}).status_code == 401
    assert bench.post(**CHAT, headers=good, temperature=9).status_code == 400
    assert bench.post(content=f'{{"{SECRET}": NaN}}', headers=good).status_code == 400
    bench.engine.codec = Broken()
    answer = bench.post(**CHAT, headers={**good, "x-request-id": "mine"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (500, "internal error")
    assert SECRET not in answer.text
    assert "encode_chat" in written.text  # it says where
    assert "ValueError" in written.text
    assert "mine" in written.text
    assert SECRET not in written.text
    assert KEY not in written.text


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_is_logged_without_its_message(written: Written, form: Any) -> None:
    written.as_(form)
    try:
        fail()
    except ValueError:
        logging.getLogger("engine.server").exception("it failed")
    assert "it failed" in written.text
    assert "test_logs.py" in written.text
    assert SECRET not in written.text
    assert form == "text" or len(written.lines()) == 1


def test_a_task_that_nobody_waits_for_tells_no_message(written: Written) -> None:
    written.as_("json")

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(logs.loop_fault)
        task = asyncio.create_task(asyncio.to_thread(fail))
        await asyncio.wait([task])
        del task

    asyncio.run(story())
    assert "ValueError" in written.text
    assert SECRET not in written.text
