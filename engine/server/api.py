"""The two routes that generate."""

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Final, Generic

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from engine.core.flags import TTFT_PIPELINE, joined
from engine.server.choices import Choices
from engine.server.connections import protocol
from engine.server.engine import Engine
from engine.server.errors import ApiError
from engine.server.keys import Keys
from engine.server.logs import REQUEST_ID, access, where
from engine.server.parts import Call
from engine.server.pieces import Piece
from engine.server.reply import Reply
from engine.server.requests import Job, RequestT, assignment_key, parse, plan
from engine.server.responses import Answer, Head, Shape
from engine.server.streams import GONE, ClientGone, Times

log = logging.getLogger("engine.server.api")

#: A client's own request id is kept when it is safe in a header and in a log.
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

#: Digits of the longest length that a 64-bit number can announce.
_LONGEST_LENGTH: Final = 19

#: Bytes. Longer bodies are tokenised beside the event loop, which they would hold up: at the
#: 1.2 to 4 MB a second measured, this much takes as long as some decoding steps.
_LONG_BODY: Final = 64 * 1024


class GenerateRoute(Generic[RequestT]):
    """An ASGI application for one route: request in, exactly one outcome out."""

    def __init__(
        self, engine: Engine, keys: Keys, kind: type[RequestT], shape: Callable[[Head], Shape]
    ) -> None:
        self._engine = engine
        self._keys = keys
        self._kind: type[RequestT] = kind
        self._shape = shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        call = self._begin(scope)
        token = REQUEST_ID.set(call.request_id)
        reply = Reply(send, self._engine, call)
        exchange = _Exchange(self._engine, call, reply)
        try:
            call.tenant = self._keys.tenant(scope)
            body = await self._body(scope, receive)
            request = parse(body, self._kind)
            await self._generate(exchange, request, receive, long=len(body) > _LONG_BODY)
        except ClientGone as gone:
            exchange.outcome, exchange.reason = "cancelled", gone.reason
        except ApiError as error:
            exchange.outcome = _outcome(error)
            await reply.error(error)
        except Exception as error:  # noqa: BLE001 - the border: everything becomes an answer
            exchange.outcome = "failed"
            log.error("request %s: %s", call.request_id, where(error))  # noqa: TRY400 - no message
            await reply.error(ApiError(status=500, message="internal error", code="internal"))
        finally:
            exchange.end()
            REQUEST_ID.reset(token)

    def _begin(self, scope: Scope) -> Call:
        engine = self._engine
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(12)
        key = headers.get("x-phase5-key")
        return Call(
            request_id=request_id,
            route=scope["path"],
            tenant="",
            protocol=protocol(scope),
            key=key,
            flags=engine.features.assign(key or request_id, engine.clocks.wall()),
            times=Times(engine.clocks.now()),
        )

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        limit = self._engine.settings.config.server.max_body_bytes
        announced = Headers(scope=scope).get("content-length", "0")
        # The server has checked that it is a number; it may be longer than Python converts.
        too_large = len(announced) > _LONGEST_LENGTH or int(announced) > limit
        body, more = bytearray(), True
        while more and not too_large:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            body += message.get("body", b"")
            too_large = len(body) > limit
            more = message.get("more_body", False)
        if too_large:
            raise ApiError(
                status=413, message=f"the body is over {limit} bytes", code="body_too_large"
            )
        return bytes(body)

    async def _generate(
        self, exchange: "_Exchange", request: RequestT, receive: Receive, *, long: bool
    ) -> None:
        engine, call = self._engine, exchange.call
        call.key = assignment_key(call.key, request, call.request_id)
        call.flags = engine.features.assign(call.key, engine.clocks.wall())
        engine.dispatcher.check()
        if request.model != engine.model.name:
            raise ApiError(
                status=404,
                message=f"model {request.model!r} is not served here; served: {engine.model.name}",
                param="model",
                code="model_not_found",
            )
        make = partial(
            plan,
            request,
            engine.codec,
            secrets.randbits(63),
            checkpoints=TTFT_PIPELINE in call.flags,
        )
        job = await asyncio.to_thread(make) if long else make()
        call.times.tokenised = engine.clocks.now()
        streams = engine.open(job, call)
        choices = exchange.choices = Choices(streams, engine.close)
        async with _watched(receive, choices):
            send = _send_events if job.stream else _send_whole
            await send(exchange.reply, self._shape(self._head(call, job)), choices)
        exchange.outcome = "ok"

    def _head(self, call: Call, job: Job) -> Head:
        return Head(
            request_id=call.request_id,
            created=int(self._engine.clocks.wall()),
            model=self._engine.model.name,
            token_bytes=self._engine.codec.token_bytes,
            logprobs=job.logprobs is not None,
            counts=job.include_usage,
        )


class _Exchange:
    """The bookkeeping of one request: whatever happens, it ends once."""

    def __init__(self, engine: Engine, call: Call, reply: "Reply") -> None:
        self.call = call
        self.reply = reply
        self.choices = Choices((), engine.close)
        self.outcome = "cut"  # unless something better is known: a stop in the middle
        self.reason: str | None = None
        self._engine = engine

    def end(self) -> None:
        self.choices.end(self.outcome, self.reason)
        self._engine.account(self.call, self.outcome, self.choices.streams, self.reason)
        if access.isEnabledFor(logging.INFO):
            access.info("request", extra={"fields": self._fields()})

    def _fields(self) -> dict[str, object]:
        """One request for a collector: who waited how long for how much, never what was said."""
        call, usage = self.call, self.choices.usage()
        times = call.times
        return {
            "route": call.route,
            "status": self.reply.status,
            "outcome": self.outcome,
            "flags": joined(call.flags),
            "protocol": call.protocol,
            "prompt_tokens": usage.prompt,
            "output_tokens": usage.output,
            "cached_tokens": usage.cached,
            "ttft_ms": _milliseconds(times.arrived, self.choices.first_text()),
            "duration_ms": _milliseconds(times.arrived, self._engine.clocks.now()),
        }


def _milliseconds(begin: float, end: float | None) -> float | None:
    return None if end is None else round(1000 * (end - begin), 1)


async def _send_events(reply: Reply, shape: Shape, choices: Choices) -> None:
    data, left = shape.opening(len(choices.streams)), len(choices.streams)
    # Closed here and now: when the sending fails, nobody may go on reading the streams.
    async with aclosing(choices.parts()) as parts:
        async for index, pieces, reason in parts:
            for piece in pieces:
                data += shape.text(index, piece)
            if reason is not None:
                data += shape.end(index, reason)
                left -= 1
            if left:
                await reply.events(data)
                data = b""
    await reply.events(data + shape.closing(choices.usage()), more=False)


async def _send_whole(reply: Reply, shape: Shape, choices: Choices) -> None:
    pieces: Sequence[list[Piece]] = [[] for _ in choices.streams]
    answers: dict[int, Answer] = {}
    async for index, new, reason in choices.parts():
        pieces[index].extend(new)
        if reason is not None:
            answers[index] = Answer(pieces=pieces[index], reason=reason)
    in_order = [answers[index] for index in range(len(pieces))]
    await reply.whole(shape.whole(in_order, choices.usage()))


@asynccontextmanager
async def _watched(receive: Receive, choices: Choices) -> AsyncIterator[None]:
    """Tell the streams when their client goes away."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        choices.post(GONE)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()


def _outcome(error: ApiError) -> str:
    if error.shed:
        return "shed"
    return "failed" if error.status >= 500 else "rejected"  # noqa: PLR2004 - HTTP's server errors
