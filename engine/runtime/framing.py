"""Messages to bytes and back: a four-byte big-endian length, then a msgpack body.

No socket here: both sides feed a `Decoder` what they read and send what `encode` returns.
"""

import struct
from typing import Any, Final, Generic, TypeVar

import msgspec

from engine.runtime.messages import MAX_FRAME_BYTES, FromRuntime, ToRuntime

_LENGTH: Final = struct.Struct(">I")
_ENCODER: Final = msgspec.msgpack.Encoder()

MessageT = TypeVar("MessageT")


class FrameError(ValueError):
    """A frame that is too large or not a message. The connection cannot go on."""


def encode(message: ToRuntime | FromRuntime, limit: int = MAX_FRAME_BYTES) -> bytes:
    """One message as a whole frame.

    Raises:
        FrameError: when the body is larger than `limit` bytes.
    """
    frame = bytearray(_LENGTH.size)
    _ENCODER.encode_into(message, frame, _LENGTH.size)
    _check_length(len(frame) - _LENGTH.size, limit)
    _LENGTH.pack_into(frame, 0, len(frame) - _LENGTH.size)
    return bytes(frame)


class Decoder(Generic[MessageT]):
    """Collects bytes and gives whole messages, however the bytes were cut up."""

    def __init__(self, message_type: Any, limit: int = MAX_FRAME_BYTES) -> None:
        self._decoder: msgspec.msgpack.Decoder[MessageT] = msgspec.msgpack.Decoder(message_type)
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[MessageT]:
        """Take what was read; return the messages that it completed.

        Raises:
            FrameError: for a length above the limit, before anything of that size is
                allocated, and for a body that is not a message.
        """
        self._buffer += data
        messages: list[MessageT] = []
        start = 0
        while (end := self._frame_end(start)) is not None:
            messages.append(self._decode(bytes(self._buffer[start + _LENGTH.size : end])))
            start = end
        del self._buffer[:start]
        return messages

    def _frame_end(self, start: int) -> int | None:
        """Where the frame that begins at `start` ends, or None while it is incomplete."""
        if len(self._buffer) - start < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer, start)
        _check_length(length, self._limit)
        end: int = start + _LENGTH.size + length
        return end if len(self._buffer) >= end else None

    def _decode(self, body: bytes) -> MessageT:
        try:
            return self._decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise FrameError(f"frame of {len(body)} bytes is not a message: {error}") from error


def to_runtime() -> Decoder[ToRuntime]:
    """The decoder of the runtime process."""
    return Decoder(ToRuntime)


def from_runtime() -> Decoder[FromRuntime]:
    """The decoder of the front end."""
    return Decoder(FromRuntime)


def _check_length(length: int, limit: int) -> None:
    if length > limit:
        raise FrameError(f"frame of {length} bytes is above the limit of {limit} bytes")
