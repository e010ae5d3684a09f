"""A server that streams on time: `python -P -m pytest_phase5.load.stub LOG [options]`.

It measures generators: it speaks HTTP/1.1 and HTTP/2 on one port, its first token and its
gaps are known, and it writes down what it really did. It prints `ready PORT`, ends when its
standard input does, and on SIGTERM lets what is open end (HTTP/2: GOAWAY).

To LOG it appends JSON lines, one when a request arrives and one when it is over, each with
its `key` and times on the system's monotonic clock, which the generator shares: `arrived`,
`first` (just before the first text was written), `ended` or `left` (the client went away),
`stall_begin` and `stall_end`.

The `model` of a request chooses how its answer ends (`KINDS`), its `max_tokens` how long it
is, and the first part of the path, `up` or `down`, what `/readyz` says.
"""

import argparse
import asyncio
import json
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from granian.constants import HTTPModes, Interfaces

from engine.server.onsocket import OnSocket
from engine.server.sockets import bind

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Answers that are not streams.
_STATUSES: Final = (404, 429, 500, 503, 504)
#: How answers end. `cut` ends without a finish reason, `reset` breaks the connection or
#: stream, `hang` never comes, `stall` once stops the whole server; the rest are streams
#: with one mistake each.
KINDS: Final = (
    *("ok", "cut", "reset", "hang", "stall", "unavailable", "error-event"),
    *("no-done", "two-dones", "after-done", "two-ends", "text-after-end", "two-usages"),
    *("early-usage", "unknown-end", "repeated", "missing", "out-of-order"),
    *(f"status-{status}" for status in _STATUSES),
)
#: Tokens after which an answer breaks that breaks in the middle.
_MIDDLE: Final = 3
PROMPT_TOKENS: Final = 7
TOKENS: Final = 16


@dataclass(slots=True)
class Exchange:
    """One request and what has become of it."""

    receive: Receive
    send: Send
    key: str
    times: dict[str, float]
    body: dict[str, Any] = field(default_factory=dict)
    number: int = 0

    async def read(self) -> None:
        """Take the body."""
        data, more = b"", True
        while more:
            message = await self.receive()
            data += message.get("body", b"")
            more = message.get("more_body", False)
        self.body = json.loads(data) if data else {}

    async def start(self, status: int, content: str, **headers: str) -> None:
        """Send the head."""
        given = {"content-type": content, "x-phase5-flags": "all", **headers}
        fields = [(n.replace("_", "-").encode(), v.encode()) for n, v in given.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": fields})

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Send a part of the body."""
        await self.send({"type": "http.response.body", "body": data, "more_body": not last})

    async def whole(self, status: int, document: Any, **headers: str) -> None:
        """Send an answer in one piece."""
        await self.start(status, "application/json", **headers)
        await self.write(json.dumps(document).encode(), last=True)

    async def event(self, document: dict[str, Any], number: int | None = None) -> None:
        """Send an event, numbered on from the last one unless a number is given."""
        self.number += 1
        document["sequence_number"] = self.number if number is None else number
        await self.write(b"data: " + json.dumps(document).encode() + b"\n\n")


@dataclass(slots=True)
class Stub:
    """The application. Its times are in seconds."""

    log: Path
    ttft: float
    gap: float  #: between two tokens
    stall_at: int  #: the request, by arrival, at which the whole server stands still
    stall: float
    arrivals: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        key = headers.get(b"x-phase5-key", b"").decode()
        exchange = Exchange(receive, send, key, {"arrived": time.monotonic()})
        state, _, path = scope["path"].lstrip("/").partition("/")
        if path == "v1/chat/completions":
            await self._completion(exchange)
        elif path == "readyz":
            await exchange.whole(200 if state == "up" else 503, {})
        elif path == "v1/models" and state == "up":
            await exchange.whole(200, {"data": [{"id": "ok"}]})
        else:
            await exchange.whole(503 if path == "v1/models" else 404, {"error": {}})

    async def _completion(self, exchange: Exchange) -> None:
        self._write(exchange)
        await exchange.read()
        answering = asyncio.ensure_future(self._answer(exchange))
        leaving = asyncio.ensure_future(_gone(exchange.receive))
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        exchange.times["ended" if answering.done() else "left"] = time.monotonic()
        for task in (answering, leaving):
            task.cancel()
        await asyncio.wait({answering, leaving})
        self._write(exchange)
        if not answering.cancelled():
            answering.result()

    def _write(self, exchange: Exchange) -> None:
        row = json.dumps({"key": exchange.key, **exchange.times})
        with self.log.open("a", encoding="utf-8") as file:
            file.write(row + "\n")

    async def _answer(self, exchange: Exchange) -> None:
        kind = exchange.body.get("model")
        if kind not in KINDS:
            await exchange.whole(404, {"error": {"type": "stub"}})
        elif kind.startswith("status-"):
            await exchange.whole(int(kind[7:]), {"error": {"type": "stub"}})
        elif kind == "unavailable":
            await exchange.whole(503, {}, retry_after="1")
        elif not exchange.body.get("stream"):
            await exchange.whole(200, _document(exchange.body))
        else:
            await self._stream(exchange, kind)

    async def _stream(self, exchange: Exchange, kind: str) -> None:
        await exchange.start(200, "text/event-stream")
        await exchange.event(_chunk({"role": "assistant", "content": ""}))
        if kind == "stall":
            self._stall(exchange.times)
        if kind == "hang":
            await asyncio.Event().wait()
        async for place in self._paced(exchange):
            number = _misnumbered(kind, place, exchange.number)
            await exchange.event(_chunk({"content": f"t{place} "}), number)
            if place == _MIDDLE and kind == "reset":
                return  # without the last part: the server breaks the connection, or stream
            if place == _MIDDLE and kind == "cut":
                await exchange.write(b"", last=True)
                return
        await _end(exchange, kind)

    async def _paced(self, exchange: Exchange) -> AsyncIterator[int]:
        """The place of each token when it is due. All are due from the arrival: no drift."""
        due = exchange.times["arrived"] + self.ttft
        for place in range(_tokens(exchange.body)):
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            exchange.times.setdefault("first", time.monotonic())
            yield place
            due += self.gap

    def _stall(self, times: dict[str, float]) -> None:
        self.arrivals += 1
        if self.arrivals == self.stall_at:
            times["stall_begin"] = time.monotonic()
            time.sleep(self.stall)  # the event loop stands still: nobody is answered
            times["stall_end"] = time.monotonic()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(exchange: Exchange, kind: str) -> None:
    if kind == "error-event":
        error = {"error": {"type": "engine_error", "message": "secret prompt text"}}
        data = b"event: error\ndata: " + json.dumps(error).encode() + b"\n\n"
        await exchange.write(data, last=True)
        return
    usage = {"choices": [], "usage": _usage(exchange.body)}
    if kind == "early-usage":
        await exchange.event({**usage})
    reason = "tired" if kind == "unknown-end" else "length"
    for _ in range(2 if kind == "two-ends" else 1):
        await exchange.event(_chunk({}, reason))
    if kind == "text-after-end":
        await exchange.event(_chunk({"content": "more"}))
    for _ in range(2 if kind == "two-usages" else 1):
        await exchange.event({**usage})
    for _ in range({"no-done": 0, "two-dones": 2}.get(kind, 1)):
        await exchange.write(b"data: [DONE]\n\n")
    if kind == "after-done":
        await exchange.event(_chunk({"content": "more"}))
    await exchange.write(b"", last=True)


def _misnumbered(kind: str, place: int, last: int) -> int | None:
    """The number of a text event, where it is to be a wrong one."""
    wrong = {"repeated": last, "missing": last + 2, "out-of-order": last - 1}
    return wrong.get(kind) if place == _MIDDLE else None


def _tokens(body: dict[str, Any]) -> int:
    return int(body.get("max_tokens") or TOKENS)


def _chunk(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    return {"id": "stub-1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def _document(body: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": "t0"}
    return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": _usage(body)}


def _usage(body: dict[str, Any]) -> dict[str, int]:
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": _tokens(body)}


async def serve(stub: Stub, cert: Path | None = None, key: Path | None = None) -> None:
    """Serve until SIGTERM or the end of standard input, and then what is still open."""
    sock = bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    server = OnSocket(
        sock,
        stub,
        interface=Interfaces.ASGINL,
        http=HTTPModes.auto,
        websockets=False,
        log_enabled=False,
        backpressure=8192,  # far above what any plan has in flight
        ssl_cert=cert,
        ssl_key=key,
    )
    serving = asyncio.create_task(server.serve())
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, server.stop)
    threading.Thread(target=_await_parent, daemon=True).start()
    print("ready", port, flush=True)  # noqa: T201 - how the parent learns the port
    await serving


def _await_parent() -> None:
    sys.stdin.read()
    signal.raise_signal(signal.SIGKILL)  # nobody is left to whom an orderly end would matter


def main(arguments: Sequence[str]) -> int:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(prog="python -P -m pytest_phase5.load.stub")
    parser.add_argument("log", type=Path)
    parser.add_argument("--ttft", type=float, default=0.02, help="seconds to the first token")
    parser.add_argument("--gap", type=float, default=0.005, help="seconds between tokens")
    parser.add_argument("--stall-at", type=int, default=10, help="request at which it stalls")
    parser.add_argument("--stall", type=float, default=2.0, help="seconds for which it stalls")
    parser.add_argument("--cert", type=Path, help="certificate chain; serves TLS, with ALPN")
    parser.add_argument("--key", type=Path, help="its key")
    options = parser.parse_args(arguments)
    stub = Stub(options.log, options.ttft, options.gap, options.stall_at, options.stall)
    asyncio.run(serve(stub, options.cert, options.key))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
