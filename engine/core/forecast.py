"""How long a stream that waits will wait, from how the latest ones fared."""

from math import isfinite
from typing import Final

from engine.core.registry import StreamId
from engine.core.windows import SlidingWindow, quantile

#: Weight of the latest stream in the time that a slot is held: a change is followed within
#: some tens of streams, which under load is less than a second or two.
HOLD_SMOOTHING: Final = 1 / 16

#: Times to first token that are remembered: what a P95 needs, no older than this many seconds,
#: so that a stall which is over is forgotten.
REMEMBERED: Final = 64
REMEMBERED_SECONDS: Final = 10.0

#: The forecast is for the stream that does badly: one that starts and is late took the slot
#: of one that would not have been.
PESSIMISM: Final = 0.95


class Forecast:
    """Expects of the next stream what the latest ones took; 0 of what it does not know yet."""

    def __init__(self) -> None:
        self._started: dict[StreamId, float] = {}
        self._hold: float | None = None
        self._firsts = SlidingWindow[float](REMEMBERED_SECONDS, REMEMBERED)

    @property
    def hold_seconds(self) -> float | None:
        """How long a stream keeps its slot, smoothed; None while none has given one back."""
        return self._hold

    def started(self, stream_id: StreamId, now: float) -> None:
        """A stream got its slot."""
        self._started[stream_id] = now

    def released(self, stream_id: StreamId, now: float) -> None:
        """It gave its slot back."""
        started = self._started.pop(stream_id, None)
        if started is None:
            return
        held = now - started
        known = held if self._hold is None else self._hold
        self._hold = known + HOLD_SMOOTHING * (held - known)

    def first_text(self, seconds: float, now: float) -> None:
        """A stream has its first text, `seconds` after it got its slot."""
        if isfinite(seconds):
            self._firsts.add(seconds, now)

    def slot_seconds(self, ahead: int, running: int, limit: int) -> float:
        """How long until a slot is free for the one behind `ahead` others.

        By Little's law slots come free at *running / hold*. Streams above a lowered limit
        have to end first, without making room.
        """
        if self._hold is None or running == 0:
            return 0.0
        ends = ahead + 1 + max(0, running - limit)
        return ends * self._hold / running

    def first_text_seconds(self, now: float) -> float:
        """How long a stream waits for its first text once it has a slot."""
        seconds = self._firsts.samples(now)
        return quantile(seconds, PESSIMISM) if seconds else 0.0
