"""The two routes that generate."""

import asyncio
import logging
import re
import secrets
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Generic

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from engine.core.flags import HTTP2_TRANSPORT, joined
from engine.server.engine import Engine
from engine.server.errors import ApiError
from engine.server.parts import Call
from engine.server.requests import RequestT, assignment_key, parse, plan
from engine.server.responses import Shape
from engine.server.streams import GONE, ClientGone, Stream, Times

log = logging.getLogger("engine.server.api")

#: A client's own request id is kept when it is safe in a header and in a log.
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
#: How long a client may remember the second port, in seconds: it can close at any reload.
_ALT_SVC_SECONDS: Final = 60


class GenerateRoute(Generic[RequestT]):
    """An ASGI application for one route: request in, exactly one outcome out."""

    def __init__(
        self, engine: Engine, kind: type[RequestT], shape: Callable[[str, int, str], Shape]
    ) -> None:
        self._engine = engine
        self._kind: type[RequestT] = kind
        self._shape = shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        call = self._begin(scope)
        reply = Reply(send, self._engine, call)
        exchange = _Exchange(self._engine, call, reply)
        try:
            request = parse(await self._body(scope, receive), self._kind)
            await self._generate(exchange, request, receive)
        except ClientGone as gone:
            exchange.outcome, exchange.reason = "cancelled", gone.reason
        except ApiError as error:
            exchange.outcome = _outcome(error)
            await reply.error(error)
        except Exception as error:  # noqa: BLE001 - the border: everything becomes an answer
            exchange.outcome = "failed"
            _log_fault(call, error)
            await reply.error(ApiError(status=500, message="internal error", code="internal"))
        finally:
            exchange.end()

    def _begin(self, scope: Scope) -> Call:
        engine = self._engine
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(12)
        key = headers.get("x-phase5-key")
        return Call(
            request_id=request_id,
            protocol="http2" if scope["http_version"].startswith("2") else "http1",
            key=key,
            flags=engine.features.assign(key or request_id, engine.clocks.wall()),
            times=Times(engine.clocks.now()),
        )

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        limit = self._engine.settings.config.server.max_body_bytes
        announced = Headers(scope=scope).get("content-length", "0")
        size, parts, more = int(announced) if announced.isdecimal() else 0, [], True
        while more and size <= limit:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message.get("body", b""))
            size = max(size, sum(map(len, parts)))
            more = message.get("more_body", False)
        if size > limit:
            raise ApiError(
                status=413, message=f"the body is over {limit} bytes", code="body_too_large"
            )
        return b"".join(parts)

    async def _generate(self, exchange: "_Exchange", request: RequestT, receive: Receive) -> None:
        engine, call = self._engine, exchange.call
        key = assignment_key(call.key, request, call.request_id)
        call.flags = engine.features.assign(key, engine.clocks.wall())
        engine.dispatcher.check()
        if request.model != engine.model.name:
            raise ApiError(
                status=404,
                message=f"model {request.model!r} is not served here; served: {engine.model.name}",
                param="model",
                code="model_not_found",
            )
        job = plan(request, engine.codec, secrets.randbits(63))
        call.times.tokenised = engine.clocks.now()
        stream = exchange.stream = engine.open(job, call.flags, call.times)
        shape = self._shape(call.request_id, int(time.time()), engine.model.name)
        async with _watched(receive, stream):
            if job.stream:
                await _send_events(exchange.reply, shape, stream)
            else:
                await _send_whole(exchange.reply, shape, stream)
        exchange.outcome = "ok"


class _Exchange:
    """The bookkeeping of one request: whatever happens, it ends once."""

    def __init__(self, engine: Engine, call: Call, reply: "Reply") -> None:
        self.call = call
        self.reply = reply
        self.stream: Stream | None = None
        self.outcome = "cut"  # unless something better is known: a stop in the middle
        self.reason: str | None = None
        self._engine = engine

    def end(self) -> None:
        if self.stream is not None:
            self._engine.close(self.stream, self.outcome, self.reason)
        self._engine.account(self.call, self.outcome, self.stream, self.reason)


class Reply:
    """Sends one answer; knows whether it has begun."""

    def __init__(self, send: Send, engine: Engine, call: Call) -> None:
        self._send = send
        self._engine = engine
        self._call = call
        self._begun = False
        self._sse = False

    async def whole(self, body: bytes) -> None:
        """A JSON answer."""
        await self._start(200, {"content-type": "application/json"})
        await self._body(body, more=False)

    async def events(self, data: bytes, *, more: bool = True) -> None:
        """Server-sent events; the first ones bring the headers."""
        if not self._begun:
            self._sse = True
            kind = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
            await self._start(200, kind)
        await self._body(data, more=more)

    async def error(self, error: ApiError) -> None:
        """The error with its status; as an event when the answer has begun."""
        if not self._begun:
            kind = {"content-type": "application/json", **error.all_headers()}
            await self._start(error.status, kind)
            await self._body(error.body(), more=False)
        elif self._sse:
            await self._body(error.event(), more=False)

    async def _start(self, status: int, headers: dict[str, str]) -> None:
        self._begun = True
        every = {**headers, **self._own_headers()}
        raw = [(name.encode(), value.encode("latin-1")) for name, value in every.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def _body(self, data: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    def _own_headers(self) -> dict[str, str]:
        call = self._call
        headers = {"x-request-id": call.request_id, "x-phase5-flags": joined(call.flags)}
        if timing := call.times.header():
            headers["server-timing"] = timing
        if alternative := self._alternative():
            headers["alt-svc"] = alternative
        return headers

    def _alternative(self) -> str | None:
        """Tell an assigned client of the second port, and everyone when it is gone."""
        ports = self._engine.ports
        if ports.http2 is None:
            return "clear" if ports.http2_was_open else None
        if HTTP2_TRANSPORT not in self._call.flags:
            return None
        protocol = "h2" if ports.http2.startswith("https") else "h2c"
        return f'{protocol}=":{ports.http2.rpartition(":")[2]}"; ma={_ALT_SVC_SECONDS}'


async def _send_events(reply: Reply, shape: Shape, stream: Stream) -> None:
    opening = shape.opening()
    async for pieces in stream.pieces():
        await reply.events(opening + b"".join(map(shape.text, pieces)))
        opening = b""
    usage = stream.usage() if stream.job.include_usage else None
    await reply.events(opening + shape.closing(_reason(stream), usage), more=False)


async def _send_whole(reply: Reply, shape: Shape, stream: Stream) -> None:
    text = "".join([piece async for pieces in stream.pieces() for piece in pieces])
    await reply.whole(shape.whole(text, _reason(stream), stream.usage()))


def _reason(stream: Stream) -> str:
    if stream.finish_reason is None:
        raise RuntimeError(f"stream {stream.uid} ended without a reason")
    return stream.finish_reason


@asynccontextmanager
async def _watched(receive: Receive, stream: Stream) -> AsyncIterator[None]:
    """Tell the stream when its client goes away."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        stream.post(GONE)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()


def _outcome(error: ApiError) -> str:
    if error.shed:
        return "shed"
    return "failed" if error.status >= 500 else "rejected"  # noqa: PLR2004 - HTTP's server errors


def _log_fault(call: Call, error: Exception) -> None:
    # Where, not what: a message may quote the prompt.
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("request %s: %s\n%s", call.request_id, type(error).__name__, where)
