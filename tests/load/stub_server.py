"""A real HTTP server with known behaviour, in a process of its own: `stub_server.py LOG`.

It prints `ready PORT` and ends when its standard input does. To LOG it appends JSON lines,
one when a request arrives and one when it is over, each with its `key` and times on the
system's monotonic clock, which the generator shares: `arrived`; `first` (just before the
first generated text was written) and `ended`; `stall_begin` and `stall_end`.

The model of the body chooses the behaviour, and the first part of the path, `up` or `down`,
what `/readyz` says.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from aiohttp import web

TTFT = 0.02
GAP = 0.005
TOKENS = 5
STALL_AT = 10  # the request, by arrival, at which the whole server stands still
STALL = 1.0
KINDS = (
    *("ok", "cut", "reset", "no-done", "error-event", "hang", "stall", "unavailable"),
    *(f"status-{status}" for status in (404, 429, 500, 503, 504)),
)


class Stub:
    def __init__(self, log: Path) -> None:
        self._log = log.open("a", encoding="utf-8", buffering=1)
        self._arrivals = 0
        self._ready = {"up": 200, "down": 503}

    async def completions(self, request: web.Request) -> web.StreamResponse:
        times = {"arrived": time.monotonic()}
        key = request.headers["X-Phase5-Key"]
        self._write(key, times)
        body = await request.json()
        try:
            return await self._answer(request, body, times)
        finally:
            self._write(key, {**times, "ended": time.monotonic()})

    async def readyz(self, request: web.Request) -> web.Response:
        return web.Response(status=self._ready[request.match_info["state"]])

    def _write(self, key: str, times: dict[str, float]) -> None:
        self._log.write(json.dumps({"key": key, **times}) + "\n")

    async def models(self, request: web.Request) -> web.Response:
        if request.match_info["state"] == "down":
            return web.json_response({"error": {}}, status=503)
        return web.json_response({"data": [{"id": "ok"}]})

    async def _answer(
        self, request: web.Request, body: dict[str, Any], times: dict[str, float]
    ) -> web.StreamResponse:
        kind = body.get("model")
        if kind not in KINDS:
            return web.json_response({"error": {"type": "stub"}}, status=404)
        if kind.startswith("status-"):
            return web.json_response({"error": {"type": "stub"}}, status=int(kind[7:]))
        if kind == "unavailable":
            return web.json_response({}, status=503, headers={"Retry-After": "1"})
        if not body["stream"]:
            return web.json_response(_whole())
        return await self._stream(request, kind, times)

    async def _stream(
        self, request: web.Request, kind: str, times: dict[str, float]
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "X-Phase5-Flags": "all"}
        )
        await response.prepare(request)
        await _send(response, _chunk({"role": "assistant", "content": ""}))
        if kind == "stall":
            self._stall(times)
        await asyncio.sleep(TTFT)
        if kind == "hang":
            await asyncio.sleep(60)
        times["first"] = time.monotonic()
        for number in range(TOKENS):
            await _send(response, _chunk({"content": f"t{number} "}))
            if kind == "reset" and number == 2:
                assert request.transport is not None
                request.transport.abort()
                return response
            if kind == "cut" and number == 2:
                return response
            await asyncio.sleep(GAP)
        return await _end(response, kind)

    def _stall(self, times: dict[str, float]) -> None:
        self._arrivals += 1
        if self._arrivals == STALL_AT:
            times["stall_begin"] = time.monotonic()
            time.sleep(STALL)  # the event loop stands still: nobody is answered
            times["stall_end"] = time.monotonic()


async def _end(response: web.StreamResponse, kind: str) -> web.StreamResponse:
    if kind == "error-event":
        error = {"error": {"type": "engine_error", "message": "secret prompt text"}}
        await response.write(b"event: error\ndata: " + json.dumps(error).encode() + b"\n\n")
        return response
    await _send(response, _chunk({}, "length"))
    await _send(response, {"choices": [], "usage": _usage()})
    if kind != "no-done":
        await response.write(b"data: [DONE]\n\n")
    return response


async def _send(response: web.StreamResponse, document: dict[str, Any]) -> None:
    await response.write(b"data: " + json.dumps(document).encode() + b"\n\n")


def _chunk(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    return {"id": "stub-1", "choices": [{"delta": delta, "finish_reason": finish}]}


def _whole() -> dict[str, Any]:
    message = {"role": "assistant", "content": "t0"}
    return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": _usage()}


def _usage() -> dict[str, int]:
    return {"prompt_tokens": 7, "completion_tokens": TOKENS}


async def main() -> None:
    stub = Stub(Path(sys.argv[1]))
    app = web.Application()
    # The state of /readyz is in the base URL, so that one server plays both.
    app.router.add_post("/{state}/v1/chat/completions", stub.completions)
    app.router.add_get("/{state}/readyz", stub.readyz)
    app.router.add_get("/{state}/v1/models", stub.models)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print("ready", runner.addresses[0][1], flush=True)  # noqa: T201 - how the parent learns the port
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until the parent goes
    await runner.cleanup()


asyncio.run(main())
