"""Whether the governor's loop still works: the limit comes to rest, and lowering it helps.

The controller damps its own swings; this looks at what comes of it, and knows nothing of how
it works. So it also catches a fault in the controller, or a plant that nobody thought of.
"""

from collections import deque
from statistics import fmean
from typing import Final

#: What `Stability.trouble` may answer.
SWINGING: Final = "swinging"
WORSE_WHILE_FALLING: Final = "worse_while_falling"
TROUBLES: Final = (SWINGING, WORSE_WHILE_FALLING)

#: A turn counts when the limit came back from where it turned by at least this share of it, and
#: by so many streams: less is noise, and costs nobody much.
TURN: Final = 0.2
TURN_STREAMS: Final = 3

#: More than so many turns among so many limits (at 5 s each: five minutes) are a swing. Two
#: changes of the load, with two overshoots each, are six.
TURNS: Final = 6
WINDOW: Final = 60

#: So many intervals over the target in a row, in which the limit never rose and came down to
#: this share of where it began: a minute, which outlasts streams that began under the old limit.
#: TTFT of the last ones should then be lower than that of the first ones. If it is above that by
#: this much, the limit is not what makes it slow.
FALLING: Final = 12
ENDS: Final = 4
FALLEN: Final = 0.5
WORSE: Final = 1.1

#: The largest factor between the TTFT of two intervals that is steady: a P95 of some tens of
#: streams is itself no better than that.
STEADY: Final = 1.5


class Stability:
    """Fed with each interval's limit and TTFT, relative to the target.

    Says why the loop is not to be trusted.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._extreme = limit
        self._rising: bool | None = None
        self._turns: deque[bool] = deque(maxlen=WINDOW)
        self._high = limit  # where the limit began to fall
        self._over: list[float] = []  # TTFT of each interval since then

    @property
    def turns(self) -> int:
        """How often the limit turned lately."""
        return sum(self._turns)

    def trouble(self, limit: int, ttft: float, *, reached: bool = True) -> str | None:
        """Take an interval: the limit after it, and its TTFT in seconds. None while all is well.

        `reached`: whether as many streams ran as might. A limit that nobody reaches cannot help.
        """
        self._turns.append(self._turned(limit))
        self._fell(limit, ttft, reached=reached)
        self._limit = limit
        if self.turns > TURNS:
            return SWINGING
        return WORSE_WHILE_FALLING if self._is_worse(limit) else None

    def _turned(self, limit: int) -> bool:
        """Whether the limit has come back from its last extreme far enough to be a turn."""
        if self._rising is None:
            if self._is_far(limit):
                self._rising, self._extreme = limit > self._extreme, limit
            return False
        onwards = limit >= self._extreme if self._rising else limit <= self._extreme
        if onwards:
            self._extreme = limit
            return False
        if not self._is_far(limit):
            return False
        self._rising, self._extreme = not self._rising, limit
        return True

    def _is_far(self, limit: int) -> bool:
        return abs(limit - self._extreme) >= max(TURN * self._extreme, TURN_STREAMS)

    def _fell(self, limit: int, ttft: float, *, reached: bool) -> None:
        if limit > self._limit or ttft <= 1.0 or not reached:
            self._over.clear()
            return
        if not self._over:
            self._high = self._limit
        self._over.append(ttft)

    def _is_worse(self, limit: int) -> bool:
        if len(self._over) < FALLING or limit > FALLEN * self._high:
            return False
        return fmean(self._over[-ENDS:]) > WORSE * fmean(self._over[:ENDS])


class Calm:
    """Whether TTFT has been steady for so many intervals in a row. Silence is calm."""

    def __init__(self, intervals: int) -> None:
        self._wanted = intervals
        self._count = 0
        self._last: float | None = None

    def silent(self, intervals: int) -> bool:
        """Intervals without a sample passed; whether that makes it calm."""
        self._count += intervals
        return self._count >= self._wanted

    def sample(self, ttft: float) -> bool:
        """An interval had this TTFT in seconds; whether it is calm now."""
        steady = self._last is None or 1 / STEADY <= ttft / max(self._last, 1e-9) <= STEADY
        self._last = ttft
        self._count = self._count + 1 if steady else 0
        return self._count >= self._wanted
