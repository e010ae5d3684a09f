"""HTTP/2 by pyreqwest: all streams of a target on one connection.

Prior knowledge in clear; over TLS, ALPN offers nothing but `h2`. pyreqwest, since it loses
no stream when a server says a graceful GOAWAY, and passes each chunk on as it arrives.
"""

import os
import socket
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pyreqwest.client import ClientBuilder
from pyreqwest.exceptions import DetailedPyreqwestError
from pyreqwest.response import Response as Answered

from pytest_phase5.load.client import Response, TransportError
from pytest_phase5.load.ticket import KEEP_ALIVE

#: How the last of a chain of causes begins, and the reason that a sample gets. The rest of
#: the message is left out: a server can write into it.
_ENDINGS: Final = {
    # `openssl req -x509` makes such a one unless told `basicConstraints=CA:FALSE`.
    "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))": (
        "certificate refused: that of an authority, not of a server"
    ),
    "invalid peer certificate": "certificate refused",
    "stream error received": "stream reset",
    "connection error received": "connection closed by GOAWAY",
}
#: Where a process finds its own descriptors, on Linux and on macOS.
_DESCRIPTORS: Final = Path("/dev/fd")


class Http2Response:
    """A pyreqwest response."""

    def __init__(self, response: Answered) -> None:
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers
        self.protocol = "h2" if response.version.startswith("HTTP/2") else "h1"
        self._reader = response.body_reader

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives."""
        while (chunk := await self._reader.read_chunk()) is not None:
            yield bytes(chunk)


class Http2Client:
    """HTTP/2. The server's limit of concurrent streams is the only one.

    Args:
        ca_file: certificates that `https` targets are checked against; None: the system's.

    Raises:
        OSError: when that file cannot be read.
    """

    protocol = "h2"

    def __init__(self, ca_file: str | None = None) -> None:
        builder = ClientBuilder().http2_prior_knowledge().no_proxy().follow_redirects(enable=False)
        builder = builder.pool_idle_timeout(timedelta(seconds=KEEP_ALIVE))
        builder = builder.gzip(enable=False).deflate(enable=False)
        builder = builder.brotli(enable=False).zstd(enable=False)
        if ca_file is not None:
            builder = builder.add_root_certificate_pem(Path(ca_file).read_bytes())
        self._client = builder.build()
        self._opened: set[tuple[str, int]] = set()

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str]
    ) -> AsyncIterator[Response]:
        """Send a request; raises TransportError, also while the body is read."""
        request = self._client.post(url).headers(dict(headers)).body_bytes(body)
        try:
            # Without the limit of 0 chunks are gathered, and the first token comes late.
            async with request.streamed_read_buffer_limit(0).build_streamed() as response:
                yield Http2Response(response)
        except DetailedPyreqwestError as error:
            raise TransportError(reason_of(error)) from error

    async def get(self, url: str) -> tuple[int, bytes]:
        """Status and body of a GET; raises TransportError."""
        try:
            response = await self._client.get(url).build().send()
            return response.status, bytes(await response.bytes())
        except DetailedPyreqwestError as error:
            raise TransportError(reason_of(error)) from error

    def connections(self) -> int:
        """Connections seen so far. One that came and went between two looks is not.

        pyreqwest does not tell. The process has no other connections than its own, so those
        are counted, by their local ends.
        """
        self._opened |= set(_connected())
        return len(self._opened)


def reason_of(error: DetailedPyreqwestError) -> str:
    """A short reason: how HTTP/2 ended the stream, else the kind of error."""
    causes = (error.details or {}).get("causes") or ()
    last = str(causes[-1]["message"]) if causes else ""
    for begin, reason in _ENDINGS.items():
        if last.startswith(begin):
            return reason
    return type(error).__name__


def _connected() -> list[tuple[str, int]]:
    """The local ends of this process's TCP connections."""
    ends = []
    for descriptor in [int(entry.name) for entry in _DESCRIPTORS.iterdir()]:
        with suppress(OSError):  # closed meanwhile (the listing's own is), or no connection
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                with socket.socket(fileno=os.dup(descriptor)) as sock:
                    sock.getpeername()
                    if sock.family in {socket.AF_INET, socket.AF_INET6}:
                        ends.append(tuple(sock.getsockname()[:2]))
    return ends
