"""The two embedded Granian servers, on sockets that we bind."""

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from granian.constants import HTTPModes, Interfaces
from starlette.types import ASGIApp

from engine.server.onsocket import OnSocket
from engine.server.parts import Ports
from engine.server.sockets import bind

#: Requests that may be open at once. Admission decides over load, so this only has to be
#: above its limit and queue together.
OPEN_REQUESTS: Final = 8192
#: How long a listener may take to say goodbye; the streams are over by then.
STOP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Tls:
    """A certificate chain and its key, as PEM files."""

    cert: Path
    key: Path


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
            ssl_cert=tls and tls.cert,
            ssl_key=tls and tls.key,
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
    """The port of `http2_transport`: open while any stream may be told of it."""

    def __init__(self, app: ASGIApp, ports: Ports, host: str, port: int, tls: Tls | None) -> None:
        self._app = app
        self._ports = ports
        self._address = (host, port)
        self._tls = tls
        self._listener: Listener | None = None

    def open(self) -> None:
        """Open the port, if it is not open.

        Raises:
            ListenError: it cannot be had.
        """
        if self._listener is None:
            host, port = self._address
            self._listener = Listener(
                self._app, bind(host, port), host=host, http2=True, tls=self._tls
            )
            self._ports.http2 = self._listener.url
            self._ports.http2_was_open = True

    def close(self) -> Listener | None:
        """Close the port; gives the listener whose connections are still ending."""
        listener, self._listener = self._listener, None
        self._ports.http2 = None
        if listener is not None:
            listener.close()
        return listener
