"""The clients' connections: who uses one, who takes nothing, and how one is cut.

`send` waits while the client's buffers are full, and would wait for ever: neither the
protocol nor the server gives up on a client that only keeps its connection open. So each
request's `send` is watched, and one that waits too long raises in the request. A connection
whose answer broke off like this is then closed at the socket, since the server would go on
holding it, with what it could not write, until the client moves.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.server.sockets import cut
from engine.server.streams import ClientGone

#: A client's address and port, and the port that it came to.
Key = tuple[str, str, str]


class SlowReader(ClientGone):
    """The client took nothing for too long."""

    reason = "slow_reader"


@dataclass(slots=True)
class _Connection:
    http2: bool
    requests: int = 0
    broken: bool = False  #: an answer broke off
    idle_since: float = 0.0  #: no request is under way


class _Outlet:
    """The `send` of one request, which can be told to give up."""

    __slots__ = ("_clock", "_giving_up", "_send", "_sending", "_task", "gave_up", "since")

    def __init__(self, send: Send, sending: set["_Outlet"], clock: Callable[[], float]) -> None:
        self._send = send
        self._sending = sending
        self._clock = clock
        self._task: asyncio.Task[Any] | None = None
        self._giving_up = False
        self.since = clock()
        self.gave_up = False

    # Called for every event of every stream: `asyncio.timeout` would double its cost.
    async def __call__(self, message: Message) -> None:
        self.since = self._clock()
        self._task = asyncio.current_task()
        self._giving_up = False
        self._sending.add(self)
        try:
            await self._send(message)
        except asyncio.CancelledError:
            if self._task is None or not self._giving_up:
                raise  # somebody else's
            self._task.uncancel()
            raise SlowReader from None
        finally:
            self._sending.discard(self)

    def give_up(self) -> None:
        """Raise `SlowReader` where the request waits in `send`, as it does now."""
        if self._task is not None and not self._giving_up:
            self._giving_up = self.gave_up = True
            self._task.cancel()


class Connections:
    """Owns the table of connections in use. `through` is what both ports serve.

    Args:
        seconds: how long a client may take nothing of what is sent to it.
        clock: seconds that never go back.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._used: dict[Key, _Connection] = {}
        self._sending: set[_Outlet] = set()
        self._swept = clock()

    @property
    def http2(self) -> int:
        """HTTP/2 connections with a request under way."""
        return sum(each.http2 and each.requests > 0 for each in self._used.values())

    @property
    def sending(self) -> int:
        """Requests that wait for their client to take something."""
        return len(self._sending)

    def sweep(self, now: float, late: float) -> None:
        """Give up on every client that has taken nothing for too long, and close what it left.

        After more than `late` seconds without a sweep nobody is given up on: it was the
        engine that stood still, and what its clients took meanwhile is not known yet.
        """
        since_last, self._swept = now - self._swept, now
        if since_last > late:
            return
        for outlet in tuple(self._sending):
            if now - outlet.since >= self._seconds:
                outlet.give_up()
        idle = [(key, each) for key, each in self._used.items() if not each.requests]
        for key, connection in idle:
            if now - connection.idle_since >= self._seconds:
                self._close(key)

    async def through(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of `app`, and cut its connection when its client is given up on."""
        client, server = scope.get("client"), scope.get("server")
        if client is None or server is None:
            await app(scope, receive, send)
            return
        key = (str(client[0]), str(client[1]), str(server[1]))
        http2 = scope.get("http_version", "").startswith("2")
        connection = self._used.setdefault(key, _Connection(http2))
        connection.requests += 1
        outlet = _Outlet(send, self._sending, self._clock)
        try:
            await app(scope, receive, outlet)
        except SlowReader:
            pass  # raised by the last words of a request that failed: there is nobody to hear them
        finally:
            connection.broken |= outlet.gave_up
            self._leave(key, connection)

    def _leave(self, key: Key, connection: _Connection) -> None:
        connection.requests -= 1
        if connection.requests:
            return
        if not connection.broken:
            del self._used[key]
        elif connection.http2:
            # Its other answers are with the server, and may be under way for as long.
            connection.idle_since = self._clock()
        else:
            self._close(key)

    def _close(self, key: Key) -> None:
        del self._used[key]
        cut(key)


class Watched:
    """An ASGI application behind `Connections`."""

    def __init__(self, app: ASGIApp, connections: Connections) -> None:
        self._app = app
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await self._connections.through(self._app, scope, receive, send)
