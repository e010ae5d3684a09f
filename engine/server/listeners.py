"""The two embedded Granian servers, on sockets that we bind."""

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP2Settings
from starlette.types import ASGIApp

from engine.server.onsocket import OnSocket
from engine.server.parts import Ports
from engine.server.sockets import ListenError, bind

log = logging.getLogger("engine.server.listeners")

#: Requests that may be open at once. Admission decides over load, so this only has to be
#: above its limit and queue together.
OPEN_REQUESTS: Final = 8192
#: How long a listener may take to say goodbye; the streams are over by then.
STOP_SECONDS: Final = 5.0
#: A server that stops lets go of its socket within milliseconds, but not at once.
LET_GO_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 0.005
#: Streams that one HTTP/2 connection may have open, as announced to the client: what the
#: requirements ask for, and the least that RFC 9113 recommends.
CONNECTION_STREAMS: Final = 100


@dataclass(frozen=True, slots=True)
class Tls:
    """A certificate chain and its key, as PEM files.

    The ciphers are those that rustls has: AEAD with forward secrecy, and no others.

    Attributes:
        minimum: the lowest version that is spoken, `1.2` or `1.3`.
        client_ca: with it, a client needs a certificate that one of these has signed.
    """

    cert: Path
    key: Path
    minimum: str = "1.3"
    client_ca: Path | None = None

    def settings(self) -> dict[str, Any]:
        """As the server names them."""
        return {
            "ssl_cert": self.cert,
            "ssl_key": self.key,
            "ssl_protocol_min": SSLProtocols(f"tls{self.minimum}"),
            "ssl_ca": self.client_ca,
            "ssl_client_verify": self.client_ca is not None,
        }


class Listener:
    """One port that serves an application."""

    def __init__(
        self,
        app: ASGIApp,
        sock: socket.socket,
        *,
        host: str,
        http2: bool = False,
        tls: Tls | None = None,
    ) -> None:
        """Take over a bound socket."""
        scheme = "http" if tls is None else "https"
        port = sock.getsockname()[1]
        self.url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        self._server = OnSocket(
            sock,
            app,
            interface=Interfaces.ASGINL,
            http=HTTPModes.auto if http2 else HTTPModes.http1,
            websockets=False,
            log_enabled=False,
            backpressure=OPEN_REQUESTS,
            http2_settings=HTTP2Settings(max_concurrent_streams=CONNECTION_STREAMS),
            **({} if tls is None else tls.settings()),
        )
        self.task = asyncio.create_task(self._server.serve(), name=f"listener {self.url}")

    def close(self) -> None:
        """Take no more connections and say goodbye; what is open goes on to its end."""
        self._server.stop()  # type: ignore[no-untyped-call] # they do not annotate it

    async def closed(self) -> bool:
        """Wait until everything open has ended, `STOP_SECONDS` at most. Whether it has."""
        done, _ = await asyncio.wait({self.task}, timeout=STOP_SECONDS)
        return bool(done)


class SecondPort:
    """The port of `http2_transport`: open while any stream may be told of it.

    Args:
        address: host and port; 0 takes a free one, and then that one again where it is still
            free, since clients and proxies remember it.
        closing: told before the connections of the port are.
    """

    def __init__(
        self,
        app: ASGIApp,
        ports: Ports,
        address: tuple[str, int],
        tls: Tls | None,
        closing: Callable[[], None] = lambda: None,
    ) -> None:
        self._app = app
        self._ports = ports
        self._host, self._port = address
        self._last_port = self._port
        self._tls = tls
        self._closing = closing
        self._wanted = False
        self._listener: Listener | None = None
        self._ending: list[Listener] = []

    async def open(self) -> None:
        """Open the port, if it is not open; gives up when it is closed meanwhile.

        Raises:
            ListenError: it cannot be had.
        """
        self._wanted = True
        sock = await self._bind() if self._listener is None else None
        if sock is not None:
            self._last_port = sock.getsockname()[1]
            self._listener = Listener(self._app, sock, host=self._host, http2=True, tls=self._tls)
            self._ports.http2 = self._listener.url
            self._ports.http2_was_open = True

    def close(self) -> None:
        """Close the port, if it is open: its connections are told to go, their streams go on."""
        self._wanted = False
        listener, self._listener = self._listener, None
        self._ports.http2 = None
        if listener is not None:
            self._closing()
            listener.close()
            self._ending = [each for each in self._ending if not each.task.done()]
            self._ending.append(listener)

    def ending(self) -> list[Listener]:
        """The listeners whose connections may still be ending."""
        return self._ending

    async def _bind(self) -> socket.socket | None:
        """A socket; None when the port is not wanted any more."""
        tries = int(LET_GO_SECONDS / _RETRY_SECONDS)
        while self._wanted:
            try:
                return bind(self._host, self._last_port)
            except ListenError:
                tries -= 1
                if tries > 0 and any(not each.task.done() for each in self._ending):
                    await asyncio.sleep(_RETRY_SECONDS)
                elif self._last_port == self._port:
                    raise
                else:
                    # Somebody else took it meanwhile, and any port will do.
                    log.warning("port %d is taken; HTTP/2 takes another one", self._last_port)
                    self._last_port = self._port
        return None
