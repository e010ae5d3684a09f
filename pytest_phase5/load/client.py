"""The seam to HTTP: what the generator needs of a client, and HTTP/1.1 by aiohttp."""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp

from pytest_phase5.load.ticket import KEEP_ALIVE


class TransportError(Exception):
    """The connection could not be made, or broke. The message is a short reason."""


class Response(Protocol):
    """A response whose body is still to come. Header names are in any case."""

    status: int
    headers: Mapping[str, str]
    protocol: str  #: `h1` or `h2`: what was spoken

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives."""


class Client(Protocol):
    """One pool of connections, used by all requests of a run."""

    protocol: str  #: what it asks for

    def post(
        self, url: str, body: bytes, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[Response]:
        """Send a request; raises TransportError, also while the body is read."""

    async def get(self, url: str) -> tuple[int, bytes]:
        """Status and body of a GET; raises TransportError."""

    def connections(self) -> int:
        """Connections opened so far."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class AiohttpResponse:
    """An aiohttp response."""

    protocol = "h1"

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers
        self._content = response.content

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives."""
        return aiter(self._content.iter_any())


class AiohttpClient:
    """HTTP/1.1. It sets no limit of its own: the generator counts what is in flight.

    Args:
        ca_file: certificates that `https` targets are checked against; None: the system's.
        reuse: whether a connection serves more than one request.
    """

    protocol = "h1"

    def __init__(self, ca_file: str | None = None, *, reuse: bool = True) -> None:
        self._connections = 0
        kept: dict[str, Any] = {"keepalive_timeout": KEEP_ALIVE} if reuse else {"force_close": True}
        trusted = ssl.create_default_context(cafile=ca_file) if ca_file else True
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=trusted, **kept),
            trace_configs=[self._counting()],
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            headers={"Accept-Encoding": "identity"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    def connections(self) -> int:
        """Connections opened so far."""
        return self._connections

    def _counting(self) -> aiohttp.TraceConfig:
        async def opened(*_: Any) -> None:
            self._connections += 1

        tracing = aiohttp.TraceConfig()
        tracing.on_connection_create_end.append(opened)
        return tracing

    @asynccontextmanager
    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str]
    ) -> AsyncIterator[Response]:
        """Send a request; raises TransportError, also while the body is read."""
        try:
            async with self._session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as response:
                yield AiohttpResponse(response)
        except (aiohttp.ClientError, OSError) as error:
            raise TransportError(type(error).__name__) from error

    async def get(self, url: str) -> tuple[int, bytes]:
        """Status and body of a GET; raises TransportError."""
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise TransportError(type(error).__name__) from error
