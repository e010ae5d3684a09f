"""Where runtime processes dial in: a TLS listener that lets in whom it expects, once each."""

import asyncio
import hmac
import logging
import secrets
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, cast

from engine.config import RuntimeConfig
from engine.runtime.certificate import make_certificate
from engine.runtime.dialling import HANDSHAKE_SECONDS, Invitation, keep_alive
from engine.runtime.interface import RuntimeStartError
from engine.runtime.link import Link, OnFrame

log = logging.getLogger("engine.runtime.lobby")

#: 256 bits in hexadecimal: nobody guesses one, whatever the pace.
_TOKEN_BYTES: Final = 64

#: Strangers hold at most this many descriptors, each for the time of a handshake.
_MAX_STRANGERS: Final = 64

_BACKLOG: Final = 128

#: When no connection can be accepted: long enough not to spin, short beside a restart.
_RETRY_SECONDS: Final = 0.5


@dataclass(slots=True, eq=False)
class Guest:
    """A process that is expected: what it is given, and the connection that it will have."""

    invitation: Invitation
    link: Link
    arrived: asyncio.Future[None]  #: resolved when it has authenticated


class Lobby:
    """Listens from `open` to `close`. Lives in one event loop.

    Args:
        sock: bound and listening.
        host: the address that processes dial, at the port of `sock`.
        handshake_seconds: what a connection may take to become a guest.
        dial: host and port that they dial instead, where something stands in between.
    """

    def __init__(
        self,
        sock: socket.socket,
        host: str,
        handshake_seconds: float = HANDSHAKE_SECONDS,
        dial: tuple[str, int] | None = None,
    ) -> None:
        self.host: str
        self.port: int
        self.host, self.port = dial or (host, sock.getsockname()[1])
        self._sock = sock
        self._handshake_seconds = handshake_seconds
        self._certificate, self._context = make_certificate()
        self._guests: list[Guest] = []
        self._strangers: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(_MAX_STRANGERS)
        self._accepting = asyncio.create_task(self._accept())

    @classmethod
    def open(cls, host: str, port: int = 0, dial: str | None = None) -> "Lobby":
        """Listen on an address of this machine; port 0 takes a free one.

        `dial` is the HOST:PORT that processes dial, where something stands in between.

        Raises:
            OSError: the address cannot be had.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        sock.setblocking(False)  # noqa: FBT003  # the standard library's signature
        return cls(sock, host, dial=_address(dial))

    @contextmanager
    def expect(self, on_frame: OnFrame) -> Iterator[Guest]:
        """Invite one process. Its token is worth nothing once used, or after the block."""
        guest = Guest(
            invitation=Invitation(
                host=self.host,
                port=self.port,
                certificate=self._certificate,
                token=secrets.token_hex(_TOKEN_BYTES // 2),
            ),
            link=Link(on_frame),
            arrived=asyncio.get_running_loop().create_future(),
        )
        self._guests.append(guest)
        try:
            yield guest
        finally:
            if guest in self._guests:
                self._guests.remove(guest)

    async def close(self) -> None:
        """Listen no more. Connections that stand are not touched."""
        tasks = {self._accepting, *self._strangers}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._sock.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._places.acquire()
            try:
                sock, address = await loop.sock_accept(self._sock)
            except OSError as error:  # no descriptor left, or the peer is gone again
                self._places.release()
                log.error("cannot accept a connection: %s", error)  # noqa: TRY400  # one line
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            stranger = asyncio.create_task(self._admit(sock, f"{address[0]}:{address[1]}"))
            self._strangers.add(stranger)
            stranger.add_done_callback(self._gone)

    def _gone(self, stranger: asyncio.Task[None]) -> None:
        self._strangers.discard(stranger)
        self._places.release()

    async def _admit(self, sock: socket.socket, address: str) -> None:
        """Make a guest of a connection, or close it and say why."""
        door = _Door()
        try:
            async with asyncio.timeout(self._handshake_seconds):
                keep_alive(sock)
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: door, sock, ssl=self._context
                )
                token = await door.token
            self._welcome(token, door)
        except TimeoutError:
            self._refuse(door, address, f"no token within {self._handshake_seconds:g} s")
        except (OSError, EOFError) as error:
            self._refuse(door, address, _reason(error))
        except asyncio.CancelledError:
            door.abort()
            raise

    def _welcome(self, token: bytes, door: "_Door") -> None:
        """Hand the connection to the guest whom the token names.

        Raises:
            PermissionError: nobody with this token is expected, or no longer.
        """
        # Each one is compared, and in constant time: how long it takes tells nothing.
        matches = [
            hmac.compare_digest(token, guest.invitation.token.encode()) for guest in self._guests
        ]
        if True not in matches:
            raise PermissionError("wrong token")
        guest = self._guests.pop(matches.index(True))
        door.hand_over(guest.link)
        guest.arrived.set_result(None)

    def _refuse(self, door: "_Door", address: str, reason: str) -> None:
        door.abort()
        log.warning("closed a connection from %s: %s", address, reason)


class _Door(asyncio.Protocol):
    """A connection that has not shown its token yet. What follows the token is kept."""

    def __init__(self) -> None:
        self.token: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's only quack like one

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) >= _TOKEN_BYTES and not self.token.done():
            self.token.set_result(bytes(self._received[:_TOKEN_BYTES]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if not self.token.done():
            self.token.set_exception(exc or EOFError("it ended without a token"))
            self.token.exception()  # heard: nobody may wait for it any more

    def hand_over(self, link: Link) -> None:
        """From here on the connection is the link's."""
        assert self._transport is not None  # noqa: S101  # the token came over it
        self._transport.set_protocol(link)
        link.connection_made(self._transport)
        if rest := bytes(self._received[_TOKEN_BYTES:]):
            link.data_received(rest)
        if self._lost:  # between its token and now
            link.connection_lost(None)

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


def _address(text: str | None) -> tuple[str, int] | None:
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    return host, int(port)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no TLS handshake: {error.reason or error}"
    return str(error) or type(error).__name__


def open_lobby(config: RuntimeConfig) -> Lobby:
    """Listen where the configuration says.

    Raises:
        RuntimeStartError: the address cannot be had.
    """
    host, port = config.link_host, config.link_port
    try:
        return Lobby.open(host, port, config.link_dial)
    except OSError as error:
        raise RuntimeStartError(
            f"runtime.link_host {host}, runtime.link_port {port}: {error.strerror or error}"
        ) from error
