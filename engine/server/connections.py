"""The clients' connections: who has one, who takes nothing, and how one is cut.

`send` waits while the client's buffers are full, and would wait for ever: neither the
protocol nor the server gives up on a client that only keeps its connection open. So each
request's `send` is watched, and one that waits too long raises in the request. A connection
whose answer broke off like this is then closed at the socket, since the server would go on
holding it, with what it could not write, until the client moves.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.server.sockets import Key, cut, open_connections
from engine.server.streams import ClientGone

log = logging.getLogger("engine.server.connections")

#: How often ended connections are looked for, besides whenever somebody asks for their number.
#: Looking costs milliseconds with a hundred connections.
LOOK_SECONDS: Final = 5.0

Protocol = Literal["http1", "http2"]
PROTOCOLS: Final[tuple[Protocol, ...]] = ("http1", "http2")


class SlowReader(ClientGone):
    """The client took nothing for too long."""

    reason = "slow_reader"


@dataclass(slots=True)
class Counts:
    """What the connections of one protocol came to, since the start.

    Attributes:
        opened: connections that brought a request.
        resets: answers that the client did not want to the end: a reset stream, or a
            connection that ended.
        goaways: connections that were told to go, since their port closed.
    """

    opened: int = 0
    resets: int = 0
    goaways: int = 0


def protocol(scope: Scope) -> Protocol:
    """What a request came over."""
    return "http2" if scope.get("http_version", "").startswith("2") else "http1"


@dataclass(slots=True)
class _Connection:
    protocol: Protocol
    requests: int = 0  #: under way
    served: int = 0  #: requests in all
    broken: bool = False  #: an answer broke off
    idle_since: float = 0.0  #: no request is under way


class _Outlet:
    """The `send` of one request, which can be told to give up."""

    __slots__ = (
        *("_clock", "_giving_up", "_send", "_sending", "_task"),
        *("finished", "gave_up", "since"),
    )

    def __init__(self, send: Send, sending: set["_Outlet"], clock: Callable[[], float]) -> None:
        self._send = send
        self._sending = sending
        self._clock = clock
        self._task = asyncio.current_task()  # the request's, which sends
        self._giving_up = False
        self.since = clock()
        self.gave_up = False
        self.finished = False

    # Called for every event of every stream: `asyncio.timeout` would double its cost.
    async def __call__(self, message: Message) -> None:
        self.since = self._clock()
        self._giving_up = False
        self._sending.add(self)
        try:
            await self._send(message)
            # Only bodies say whether more comes; a start says nothing.
            self.finished |= not message.get("more_body", True)
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


def _nobody(_protocol: Protocol, _served: int) -> None:
    """Listens to no end."""


class Connections:
    """Owns the table of connections that brought a request. `through` is what both ports serve.

    Args:
        seconds: how long a client may take nothing of what is sent to it.
        clock: seconds that never go back.
        still_open: the connections of this process; ours have no other way to tell their end.
    """

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float],
        still_open: Callable[[], set[Key]] = open_connections,
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._still_open = still_open
        self.counts = {each: Counts() for each in PROTOCOLS}
        #: Told of a connection that ended: its protocol, and the requests that it brought.
        self.on_end: Callable[[Protocol, int], None] = _nobody
        self._used: dict[Key, _Connection] = {}
        self._sending: set[_Outlet] = set()
        self._swept = self._looked = clock()

    def open(self, kind: Protocol) -> int:
        """Connections of a protocol that are open now, with or without a request under way."""
        self._forget_ended()
        return sum(each.protocol == kind for each in self._used.values())

    def busiest(self, kind: Protocol) -> int:
        """Requests under way on the connection of a protocol that has most."""
        found = (each.requests for each in self._used.values() if each.protocol == kind)
        return max(found, default=0)

    def told_to_go(self) -> None:
        """The second port closes: its connections are told so."""
        self.counts["http2"].goaways += self.open("http2")

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
        if now - self._looked >= LOOK_SECONDS:
            self._forget_ended()
        if since_last > late:
            return
        for outlet in tuple(self._sending):
            if now - outlet.since >= self._seconds:
                outlet.give_up()
        for key, connection in self._idle():
            if connection.broken and now - connection.idle_since >= self._seconds:
                self._close(key)

    async def through(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of `app`, and cut its connection when its client is given up on."""
        client, server = scope.get("client"), scope.get("server")
        if client is None or server is None:
            await app(scope, receive, send)
            return
        key = (str(client[0]), str(client[1]), str(server[1]))
        connection = self._enter(key, protocol(scope))
        outlet = _Outlet(send, self._sending, self._clock)

        async def heard() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and not outlet.finished:
                outlet.finished = True  # counted once
                self.counts[connection.protocol].resets += 1
            return message

        try:
            await app(scope, heard, outlet)
        except SlowReader:
            pass  # raised by the last words of a request that failed: there is nobody to hear them
        finally:
            connection.broken |= outlet.gave_up
            self._leave(key, connection)

    def _enter(self, key: Key, kind: Protocol) -> _Connection:
        connection = self._used.get(key)
        if connection is None or connection.protocol != kind:  # an address that came again
            connection = self._used[key] = _Connection(kind)
            self.counts[kind].opened += 1
        connection.requests += 1
        connection.served += 1
        return connection

    def _leave(self, key: Key, connection: _Connection) -> None:
        connection.requests -= 1
        connection.idle_since = self._clock()
        # Of HTTP/2, other answers are with the server, and may be under way for as long.
        if connection.broken and not connection.requests and connection.protocol == "http1":
            self._close(key)

    def _idle(self) -> list[tuple[Key, _Connection]]:
        return [(key, each) for key, each in self._used.items() if not each.requests]

    def _forget_ended(self) -> None:
        self._looked = self._clock()
        idle = self._idle()
        try:
            still = self._still_open() if idle else set()
        except OSError as error:  # no descriptor to look with: nobody is known to have left
            log.warning("cannot see which connections have ended: %s", error)
            return
        for key, _ in idle:
            if key not in still:
                self._forget(key)

    def _close(self, key: Key) -> None:
        self._forget(key)
        try:
            cut(key)
        except OSError as error:  # as above; the server holds it until the client moves
            log.warning("cannot cut a connection: %s", error)

    def _forget(self, key: Key) -> None:
        ended = self._used.pop(key)
        self.on_end(ended.protocol, ended.served)
