"""How a runtime process reaches its front end over TLS.

The front end hands it an `Invitation`. The process trusts that certificate and no other, and
shows the token, which opens one connection once. What serves the model sees a plain socket:
a thread carries its bytes to TLS and back, since two threads must not share a TLS socket.
"""

import asyncio
import socket
import ssl
from collections.abc import MutableMapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass
from threading import Thread
from typing import Final

#: The name in the certificate: what is pinned is the certificate, not the address.
FRONT_END: Final = "phase5-front-end"

#: Connecting, the TLS handshake and the token, together: milliseconds on a healthy network.
HANDSHAKE_SECONDS: Final = 10.0

#: A front end whose host vanished without a word is noticed after 10 s and 4 probes 5 s apart.
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4))

#: How long a front end may take to answer that we end.
_GOODBYE_SECONDS: Final = 1.0

_CHUNK_BYTES: Final = 64 * 1024
_PREFIX: Final = "PHASE5_LINK_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """Where to dial, whom to expect there, and what to show. Never print one."""

    host: str
    port: int
    certificate: str  #: PEM
    token: str

    def __repr__(self) -> str:
        """Without the token: a repr ends up in logs."""
        return f"<invitation to {self.host}:{self.port}>"

    def environment(self) -> dict[str, str]:
        """As variables for a process that is started with them."""
        return {f"{_PREFIX}{name.upper()}": str(value) for name, value in asdict(self).items()}

    @classmethod
    def accept(cls, environment: MutableMapping[str, str]) -> "Invitation":
        """Take it out of the environment, so that nothing this process starts inherits it.

        Raises:
            ConnectionError: it is not there.
        """
        names = [f"{_PREFIX}{name.upper()}" for name in cls.__slots__]
        if missing := [name for name in names if name not in environment]:
            raise ConnectionError(f"no invitation: {', '.join(missing)} not set")
        host, port, certificate, token = (environment.pop(name) for name in names)
        return cls(host=host, port=int(port), certificate=certificate, token=token)


def dial(invitation: Invitation) -> socket.socket:
    """Connect and authenticate; returns a socket that reads and writes as if it were the link.

    It reaches its end of file when the connection is over.

    Raises:
        OSError: no connection, no TLS, or another certificate than the invitation's.
    """
    ours, theirs = socket.socketpair()
    connected: Future[None] = Future()
    carrier = _carry(invitation, theirs, connected)
    Thread(target=asyncio.run, args=(carrier,), name="link", daemon=True).start()
    try:
        connected.result()
    except BaseException:
        ours.close()
        raise
    return ours


async def _carry(invitation: Invitation, plain: socket.socket, connected: Future[None]) -> None:
    """Connect, then carry bytes both ways until one side is over."""
    with plain:
        try:
            reader, writer = await _connect(invitation)
        except BaseException as error:  # noqa: BLE001  # whoever waits must hear of it
            connected.set_exception(error)
            return
        inner_reader, inner_writer = await asyncio.open_unix_connection(sock=plain)
        connected.set_result(None)
        ways = {
            asyncio.create_task(_pump(reader, inner_writer)),
            asyncio.create_task(_pump(inner_reader, writer)),
        }
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for end in (inner_writer, writer):
            end.close()
            with suppress(OSError):  # a connection that broke is closed as well
                await end.wait_closed()


async def _connect(invitation: Invitation) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(HANDSHAKE_SECONDS):
        reader, writer = await asyncio.open_connection(
            invitation.host,
            invitation.port,
            ssl=pinned(invitation.certificate),
            server_hostname=FRONT_END,
            ssl_shutdown_timeout=_GOODBYE_SECONDS,
        )
        keep_alive(writer.get_extra_info("socket"))
        writer.write(invitation.token.encode())
        await writer.drain()
    return reader, writer


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One way, no faster than the other end reads, until the end of file or an error."""
    try:
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    except OSError:  # a broken connection is over, like one that ended
        return


def pinned(certificate: str) -> ssl.SSLContext:
    """A client's context that trusts this one certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=certificate)
    return context


def keep_alive(sock: socket.socket) -> None:
    """Have the kernel notice a peer that is gone without a word."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):  # macOS lacks some of them in older Pythons
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
