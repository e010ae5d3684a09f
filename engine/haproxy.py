"""Lets an HAProxy in front of an engine follow its flag `http2_transport`.

    python -m engine.haproxy ENGINE_URL ADMIN_SOCKET MAP_FILE

Every half second it reads the engine's `/v1/status` and tells the proxy which share of the
clients is offered HTTP/2, and where the engine's second port is. Everything is told each time,
so a proxy that was restarted needs nothing. An engine that does not answer has no share.
"""

import argparse
import logging
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

log = logging.getLogger("engine.haproxy")

#: A quarter of the two seconds within which a change must have arrived.
POLL_SECONDS: Final = 0.5
#: Of the engine and of the proxy; both are near.
TIMEOUT_SECONDS: Final = 1.0
#: As `config/haproxy/haproxy.cfg` names it.
SERVER: Final = "second_port/http2"
#: The proxy counts in hundredths of a percent.
_PARTS: Final = 100


class ProxyError(RuntimeError):
    """The proxy did not do as told. The message has the command and its answer."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What the proxy shall do.

    Attributes:
        share: of the clients, in hundredths of a percent.
        port: host and port of the engine's HTTP/2 in clear; None while it has none.
    """

    share: int
    port: tuple[str, int] | None


NOTHING: Final = Offer(0, None)


def offer(status: Any) -> Offer:
    """What a `/v1/status` asks for.

    A second port with TLS is not for a proxy that ends TLS itself: there is no offer then.

    Raises:
        LookupError, TypeError, ValueError: it is no such document.
    """
    url = status["endpoints"]["http2"]
    if url is None:
        return NOTHING
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None or parts.port is None:
        return NOTHING
    percentage = float(status["flags"]["http2_transport"]["effective"])
    return Offer(round(percentage * _PARTS), (parts.hostname, parts.port))


def commands(wanted: Offer, map_file: str) -> list[str]:
    """How the proxy is told: the port first, since the share sends clients there."""
    told = [f"set map {map_file} share {wanted.share}"]
    if wanted.port is not None:
        host, port = wanted.port
        told.insert(0, f"set server {SERVER} addr {host} port {port}")
    return told


def tell(admin: Path, command: str) -> None:
    """Give the proxy one command.

    Raises:
        OSError: it does not listen.
        ProxyError: it refused.
    """
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(TIMEOUT_SECONDS)
        sock.connect(str(admin))
        sock.sendall(f"{command}\n".encode())
        answer = b"".join(iter(lambda: sock.recv(4096), b"")).decode().strip()
    # A map answers nothing; a server tells its change, or that there was none.
    if answer and "change" not in answer:
        raise ProxyError(f"{command}: {answer}")


class Follower:
    """Owns what was told last, so that changes and faults are logged once."""

    def __init__(self, engine: httpx.Client, admin: Path, map_file: str) -> None:
        self._engine = engine
        self._admin = admin
        self._map_file = map_file
        self._said = ""

    def follow(self) -> None:
        """Read once, tell once."""
        wanted, said = NOTHING, ""
        try:
            wanted = offer(self._engine.get("/v1/status").raise_for_status().json())
        except (httpx.HTTPError, LookupError, TypeError, ValueError) as error:
            said = f"the engine tells no status, so nobody is offered HTTP/2: {error!r}"
        try:
            for command in commands(wanted, self._map_file):
                tell(self._admin, command)
        except (OSError, ProxyError) as error:
            said = f"the proxy was not told: {error}"
        self._say(said or f"{wanted.share / _PARTS:g} % are offered HTTP/2")

    def _say(self, text: str) -> None:
        if text != self._said:
            log.warning("%s", text)
        self._said = text


def main(arguments: Sequence[str]) -> None:
    """Follow until stopped."""
    logging.basicConfig(format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(prog="python -m engine.haproxy", description=__doc__)
    parser.add_argument("engine", help="address of the engine, such as http://127.0.0.1:8080")
    parser.add_argument("socket", type=Path, help="the proxy's admin socket")
    parser.add_argument("map", help="the map file, as the proxy's configuration names it")
    given = parser.parse_args(arguments)
    with httpx.Client(base_url=given.engine, timeout=TIMEOUT_SECONDS) as engine:
        follower = Follower(engine, given.socket, given.map)
        while True:
            follower.follow()
            time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1:])
