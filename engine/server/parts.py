"""What the engine is put together from, besides its core: clocks, ports, one call."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from engine.core.flags import FlagSet
from engine.server.detokenizers import Detokenizer
from engine.server.requests import Encoder
from engine.server.streams import Times


class Codec(Encoder, Protocol):
    """Tokens and text of a model."""

    def detokenizer(self) -> Detokenizer:
        """A fresh one, for one stream."""

    def token_bytes(self, token: int) -> bytes:
        """What a token stands for by itself."""


@dataclass(slots=True, kw_only=True)
class Ports:
    """Where the engine answers; `http2` is None while the second port is closed."""

    http: str = ""
    http2: str | None = None
    #: The second port was open once: clients may remember it and must be told that it is not.
    http2_was_open: bool = False


class Http2Port(Protocol):
    """The second port, opened and closed by a reload; `listeners.SecondPort` is the real one."""

    async def open(self) -> None:
        """Open it, if it is not open; raises `ListenError`."""

    def close(self) -> None:
        """Close it, if it is open."""


@dataclass(slots=True, kw_only=True)
class Clocks:
    """`now` never goes back; `wall` is seconds since 1970."""

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


@dataclass(slots=True, kw_only=True)
class Call:
    """One request from its first byte: who asks, over what, and in which arm.

    Attributes:
        tenant: who shares a fair part: a digest of the API key, or the client's address.
        key: what decides the flags; until the body is read, only what its header says.
    """

    request_id: str
    route: str
    tenant: str
    protocol: str
    key: str | None
    flags: FlagSet
    times: Times
