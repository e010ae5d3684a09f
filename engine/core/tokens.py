"""The feed-forward of the governor: how many prompt tokens may be read at once.

A stream's first token comes when the prompts before it, and its own, have been read. So the
time to first token is at least *tokens to read / speed of reading*, and a bound on the tokens
keeps the target before a single late stream has told the controller anything.
"""

from math import inf, isfinite
from typing import Final

from engine.core.registry import StreamId
from engine.core.windows import SlidingWindow, quantile

#: Seconds of reading that a measurement covers at least: the chunks of one step arrive in one
#: frame, and say nothing about speed by the microseconds between them.
SHORTEST_SECONDS: Final = 0.1

#: Fewer tokens than these say more about the fixed cost of a step than about speed.
TELLING_TOKENS: Final = 128

#: Seconds of reading after which fewer tokens than that count too: a slow machine is slow.
TELLING_SECONDS: Final = 1.0

#: Weight of the latest measurement: a change of speed is followed within about five.
SMOOTHING: Final = 0.3

#: What first tokens take beyond the reading is remembered of so many streams, as a P95 needs, no
#: older than so many seconds, so that a stall that is over is forgotten. The P95 is the one of
#: the objective: what 19 of 20 streams keep.
REMEMBERED: Final = 64
REMEMBERED_SECONDS: Final = 10.0
QUANTILE: Final = 0.95


class TokenBudget:
    """Prompt tokens that streams with a slot have still to read, and how many there may be.

    The speed is that of the engine as streams see it: tokens read while any were to be read,
    by the time that this took, decoding steps between two chunks and all replicas included.
    Under light load it says too little, since nobody presses; the bound is `target_s` of
    it, which lets the load grow until it says enough.

    A first token takes longer than the reading before it: turns in which others decode, a step
    that has begun, the way to the front end. How much longer is learnt from the streams (their
    P95), and taken off the target; else half of them would be late where the bound is reached.
    """

    def __init__(self, target_s: float) -> None:
        self._target = target_s
        self._expected: dict[StreamId, float] = {}  # seconds of reading, as known at its start
        self._beyond = SlidingWindow[float](REMEMBERED_SECONDS, REMEMBERED)
        self._unread: dict[StreamId, int] = {}
        self._outstanding = 0
        self._read = 0  # tokens of the measurement that is under way
        self._seconds = 0.0  # and its time
        self._since = 0.0
        self._speed: float | None = None

    @property
    def outstanding(self) -> int:
        """Prompt tokens of streams with a slot that are not read yet."""
        return self._outstanding

    @property
    def tokens_per_second(self) -> float | None:
        """The measured speed of reading; None while it is not known."""
        return self._speed

    def beyond_seconds(self, now: float) -> float:
        """How much longer than the reading a first token takes; 0 while nobody has told."""
        known = self._beyond.samples(now)
        return max(0.0, quantile(known, QUANTILE)) if known else 0.0

    def bound(self, now: float) -> float:
        """How many tokens may be outstanding; infinite while the speed is not known."""
        if self._speed is None:
            return inf
        return max(0.0, self._target - self.beyond_seconds(now)) * self._speed

    def fits(self, tokens: int, now: float, already: int = 0) -> bool:
        """Whether a prompt may begin, with `already` more tokens that are about to.

        A prompt longer than the bound may begin when nothing else is read: it must not
        wait for ever.
        """
        before = self._outstanding + already
        return before == 0 or before + tokens <= self.bound(now)

    def seconds(self, tokens: int, now: float) -> float:
        """How long until the first token behind `tokens` more; 0 while the speed is not known."""
        if self._speed is None:
            return 0.0
        return (self._outstanding + tokens) / self._speed + self.beyond_seconds(now)

    def fitting_seconds(self, tokens: int, now: float) -> float:
        """How long until `tokens` more fit; 0 while the speed is not known."""
        if self._speed is None:
            return 0.0
        most = max(self.bound(now), tokens)  # longer ones fit when nothing else is read
        return max(0.0, self._outstanding + tokens - most) / self._speed

    def started(self, stream_id: StreamId, tokens: int, now: float) -> None:
        """A stream got its slot."""
        self._clock(now)
        if self._speed is not None:
            self._expected[stream_id] = (self._outstanding + tokens) / self._speed
        self._set(stream_id, tokens)

    def first_text(self, stream_id: StreamId, seconds: float, now: float) -> None:
        """A stream has its first text, `seconds` after it got its slot."""
        expected = self._expected.pop(stream_id, None)
        if expected is not None and isfinite(seconds):
            self._beyond.add(seconds - expected, now)

    def progress(self, stream_id: StreamId, unread: int, now: float, cached: int = 0) -> None:
        """A chunk was read, and so many tokens remain; `cached` ones came without reading.

        More than before are none read: the stream began anew in another process.
        """
        before = self._unread.get(stream_id)
        if before is None:
            return
        self._clock(now)
        self._read += max(0, before - unread - cached)
        self._set(stream_id, unread)
        enough = TELLING_TOKENS if self._seconds < TELLING_SECONDS else 1
        if self._read >= enough and self._seconds >= SHORTEST_SECONDS:
            self._learn()

    def ended(self, stream_id: StreamId, now: float) -> None:
        """A stream with a slot ended, however."""
        self._clock(now)
        self._expected.pop(stream_id, None)
        self._set(stream_id, 0)

    def _set(self, stream_id: StreamId, unread: int) -> None:
        self._outstanding += unread - self._unread.pop(stream_id, 0)
        if unread > 0:
            self._unread[stream_id] = unread

    def _clock(self, now: float) -> None:
        """Time counts while there is something to read."""
        if self._outstanding:
            self._seconds += now - self._since
        self._since = now

    def _learn(self) -> None:
        speed = self._read / self._seconds
        known = speed if self._speed is None else self._speed
        self._speed = known + SMOOTHING * (speed - known)
        self._read, self._seconds = 0, 0.0
