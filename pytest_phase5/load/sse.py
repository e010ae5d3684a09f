"""Server-sent events from bytes: pure and incremental.

Any split of the bytes gives the same events. An event without its blank line at the end of
the stream was never completed and is not reported, as the standard demands.
"""

import re
from dataclasses import dataclass
from typing import Final

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its name (`message` unless the stream said otherwise) and its data."""

    name: str
    data: str


class SseParser:
    """Turns the bytes of a stream into events."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[str] = []
        self._at_start = True

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete."""
        events = []
        for line in self._lines(data):
            event = self._line(line)
            if event is not None:
                events.append(event)
        return events

    def _lines(self, data: bytes) -> list[bytes]:
        buffer = self._rest + data
        # A carriage return at the very end may be half of CR LF: it waits for the next byte.
        held = b"\r" if buffer.endswith(b"\r") else b""
        *lines, rest = _LINE_END.split(buffer.removesuffix(held) if held else buffer)
        self._rest = rest + held
        if lines and self._at_start:
            self._at_start = False
            lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
        return lines

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        field, _, value = line.decode("utf-8", errors="replace").partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        return None  # comments (an empty field), `id` and `retry` tell us nothing

    def _dispatch(self) -> Event | None:
        name, data = self._name or "message", self._data
        self._name, self._data = "", []
        return Event(name, "\n".join(data)) if data else None
