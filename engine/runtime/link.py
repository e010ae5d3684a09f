"""The connection to a runtime process as the front end holds it, whatever carries it."""

import asyncio
from collections.abc import Callable
from typing import cast

from engine.runtime.framing import Decoder, FrameError, encode, from_runtime
from engine.runtime.messages import FromRuntime, ToRuntime

OnFrame = Callable[[FromRuntime], None]


class Link(asyncio.Protocol):
    """The connection: bytes to frames, messages to bytes, and the one moment when it ends."""

    def __init__(self, on_frame: OnFrame) -> None:
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._on_frame = on_frame
        self._decoder: Decoder[FromRuntime] = from_runtime()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send over this from now on."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's only quack like one

    def send(self, message: ToRuntime) -> None:
        """Queue a message; dropped before the connection stands and when it is over."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(message))

    def abort(self) -> None:
        """Close at once: nothing more is sent or heard."""
        if self._transport is not None:
            self._transport.abort()
        self._end("closed by the front end")

    def data_received(self, data: bytes) -> None:
        """Hear every frame that is complete; what is no frame ends the connection."""
        try:
            for frame in self._decoder.feed(data):
                self._on_frame(frame)
        except FrameError as error:
            self._end(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so, once."""
        self._end(f"connection lost: {exc}" if exc else "the process ended")

    def _end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)
