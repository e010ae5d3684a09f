import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from guard_builders import NOW

from gates.guarding.situation import Tell
from gates.guarding.telling import (
    ALERTMANAGER,
    SLACK,
    WEBHOOK,
    Telling,
    alertmanager,
    plain,
    receivers,
    slack,
)

BAD = Tell(key="engine:e1", text="engine e1 does not answer")
WORSE = Tell(key="store", text="git: no route")


@pytest.fixture
def hook() -> Iterator[tuple[str, list[Any], list[int]]]:
    """Where it listens, what it got, and the statuses that it answers next."""
    got: list[Any] = []
    answers: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(answers.pop(0) if answers else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", got, answers
        server.shutdown()
        thread.join()


def test_a_condition_is_told_when_it_begins_and_when_it_ends(
    hook: tuple[str, list[Any], list[int]],
) -> None:
    url, got, _ = hook
    telling = Telling("file:store", receivers(url, {}))

    async def story() -> None:
        assert await telling.send(telling.due([BAD], NOW)) == []
        assert telling.due([BAD], NOW) == []
        assert await telling.send(telling.due([], NOW + timedelta(minutes=1))) == []
        assert telling.due([], NOW) == []

    asyncio.run(story())
    step = "next: phase5 status (docs/phase5/runbooks/incident-response.md)"
    assert [body["text"] for body in got] == [f"{BAD.text}\n{step}", f"over: {BAD.text}"]
    assert [body["notes"][0]["ended"] is None for body in got] == [True, False]


def test_what_a_receiver_did_not_take_is_told_again(
    hook: tuple[str, list[Any], list[int]],
) -> None:
    url, got, answers = hook
    answers.append(503)
    telling = Telling("file:store", receivers(url, {}))

    async def story() -> None:
        (why,) = await telling.send(telling.due([BAD], NOW))
        assert "answered 503" in why
        assert url not in why
        assert await telling.send(telling.due([BAD, WORSE], NOW)) == []

    asyncio.run(story())
    assert [len(body["notes"]) for body in got] == [1, 2]


def test_a_receiver_that_is_not_there_is_named_without_its_address() -> None:
    telling = Telling("file:store", receivers("http://127.0.0.1:9/secret", {}))
    (why,) = asyncio.run(telling.send(telling.due([BAD], NOW)))
    assert "cannot be reached" in why
    assert "secret" not in why


def test_the_next_guard_does_not_tell_it_again() -> None:
    first = Telling("file:store", {})
    first.told(first.due([BAD], NOW))
    second = Telling("file:store", {})
    second.load(json.loads(json.dumps(first.dump())))
    assert [note.tell for note in second.due([BAD, WORSE], NOW)] == [WORSE]
    second.load({"x": {"text": "odd"}})  # what cannot be read is told again
    assert "x" not in second.began


def test_each_address_is_told_in_its_own_format() -> None:
    given = {ALERTMANAGER: "http://a", SLACK: "http://s", WEBHOOK: "http://w/api/v2/alerts"}
    assert receivers("http://mine", given) == {
        "http://mine": plain,
        "http://w/api/v2/alerts": alertmanager,
        "http://a": alertmanager,
        "http://s": slack,
    }
    assert receivers(None, {}) == {}


def test_an_alertmanager_learns_when_it_is_over() -> None:
    telling = Telling("file:store", {})
    notes = telling.due([BAD], NOW)
    telling.told(notes)
    (alert,) = alertmanager(notes)
    assert alert["labels"]["what"] == BAD.key
    assert alert["annotations"]["next"] == "phase5 status"
    assert alert["annotations"]["runbook"].endswith("incident-response.md")
    (over,) = alertmanager(telling.due([], NOW + timedelta(minutes=1)))
    assert over["endsAt"] < alert["endsAt"]
    assert over["labels"] == alert["labels"]
    assert over["startsAt"] == alert["startsAt"]
