"""HTTP/1.1 for streams, inside Locust: every byte is handed on when it arrives.

Locust's own clients are not used: `FastHttpUser` reads lines in blocks of 1,024 bytes, so the
first token seems to come with the last one, and it takes a broken connection for an end.
"""

import select
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from ssl import SSLContext
from typing import Final
from urllib.parse import urlsplit

from gevent.monkey import get_original

from pytest_phase5.load.ticket import KEEP_ALIVE

#: Bytes taken at once at most; a chunk of a stream is far smaller.
_BLOCK: Final = 65_536
#: The patched one would go round the event loop between taking the time and sending.
_poll: Final = get_original("select", "poll")


class Connections:
    """The connections to one base URL. It sets no limit: the pump counts what is in flight.

    Raises:
        ValueError: the target is not http or https with a host.
    """

    def __init__(self, base: str, context: SSLContext | None = None) -> None:
        parts = urlsplit(base)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"target {base!r}; allowed: http://HOST:PORT or https://HOST:PORT")
        self.opened = 0
        self._host, self._port, self._prefix = parts.hostname, parts.port, parts.path.rstrip("/")
        self._secure = parts.scheme == "https"
        self._context = context
        self._idle: list[tuple[HTTPConnection, float]] = []

    @contextmanager
    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Iterator[HTTPResponse]:
        """Send a request; the connection is kept only if its answer was read to the end.

        Raises:
            OSError: no connection, or a broken one; also while the body is read.
            http.client.HTTPException: an answer that is not HTTP, or ends too early.
        """
        with self._exchange("POST", path, body, headers) as response:
            yield response

    def get(self, path: str) -> int:
        """The status of a GET. Raises what `post` does."""
        with self._exchange("GET", path, None, {}) as response:
            response.read()
            return response.status

    @contextmanager
    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Iterator[HTTPResponse]:
        connection = self._take() or self._open()
        try:
            connection.request(method, self._prefix + path, body, dict(headers))
            response = connection.getresponse()
            yield response
        except BaseException:  # also when its greenlet is killed or its time is up
            connection.close()
            raise
        if response.isclosed() and not response.will_close:
            self._idle.append((connection, time.monotonic()))
        else:
            response.close()
            connection.close()

    def _open(self) -> HTTPConnection:
        self.opened += 1
        if self._secure:
            return HTTPSConnection(self._host, self._port, context=self._context)
        return HTTPConnection(self._host, self._port)

    def _take(self) -> HTTPConnection | None:
        """The connection used last, which is the least likely to have been closed."""
        while self._idle:
            connection, since = self._idle.pop()
            if time.monotonic() - since < KEEP_ALIVE and not _is_readable(connection):
                return connection
            connection.close()
        return None


def chunks(response: HTTPResponse) -> Iterator[bytes]:
    """The body as it arrives."""
    while data := response.read1(_BLOCK):
        yield data


def _is_readable(connection: HTTPConnection) -> bool:
    """Whether an idle connection has something to say: only that it is closed."""
    if connection.sock is None:
        return True
    poll = _poll()
    poll.register(connection.sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))
