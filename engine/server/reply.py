"""One answer on its way out: status and headers once, then an object or events."""

from typing import Final

import msgspec
from starlette.responses import Response
from starlette.types import Send

from engine.core.flags import HTTP2_TRANSPORT, joined
from engine.server.engine import Engine
from engine.server.errors import ApiError
from engine.server.parts import Call

#: How long a client may remember the second port, in seconds: it can close at any reload.
_ALT_SVC_SECONDS: Final = 60


class Reply:
    """Sends one answer; knows whether it has begun.

    Attributes:
        status: of the answer; None while it has not begun.
    """

    def __init__(self, send: Send, engine: Engine, call: Call) -> None:
        self._send = send
        self._engine = engine
        self._call = call
        self.status: int | None = None
        self._sse = False

    async def whole(self, body: bytes) -> None:
        """A JSON answer."""
        await self._start(200, {"content-type": "application/json"})
        await self._body(body, more=False)

    async def events(self, data: bytes, *, more: bool = True) -> None:
        """Server-sent events; the first ones bring the headers."""
        if self.status is None:
            self._sse = True
            kind = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
            await self._start(200, kind)
        await self._body(data, more=more)

    async def error(self, error: ApiError) -> None:
        """The error with its status; as an event when the answer has begun."""
        if self.status is None:
            kind = {"content-type": "application/json", **error.all_headers()}
            await self._start(error.status, kind)
            await self._body(error.body(), more=False)
        elif self._sse:
            await self._body(error.event(), more=False)

    async def _start(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
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


def json(document: object, status: int = 200) -> Response:
    """An answer in one JSON object."""
    return Response(msgspec.json.encode(document), status, media_type="application/json")
