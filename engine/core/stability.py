"""Whether the governor's loop still works: the limit comes to rest, and lowering it helps.

The controller damps its own swings; this looks at what comes of it, and knows nothing of how
it works. So it also catches a fault in the controller, or a plant that nobody thought of.
"""

from collections import deque
from typing import Final

#: What `Stability.trouble` may answer.
SWINGING: Final = "swinging"
WORSE_WHILE_FALLING: Final = "worse_while_falling"
TROUBLES: Final = (SWINGING, WORSE_WHILE_FALLING)

#: A turn counts when the limit came back by at least this share of where it turned: less is
#: noise, and costs nobody anything.
TURN: Final = 0.1

#: More than so many turns among so many limits (at 5 s each: five minutes) are a swing. Two
#: changes of the load, there and back, with an overshoot each, are four.
TURNS: Final = 4
WINDOW: Final = 60

#: So many falls in a row, each of up to a fifth, cut the limit to a third of what it was, and
#: outlast a delay of three intervals. If TTFT is then above where it began, the limit is not
#: what makes it slow.
FALLS: Final = 6
WORSE: Final = 1.1


class Stability:
    """Fed with each interval's limit and TTFT. Says why the loop is not to be trusted."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._extreme = limit
        self._rising: bool | None = None
        self._turns: deque[bool] = deque(maxlen=WINDOW)
        self._falling: list[float] = []

    @property
    def turns(self) -> int:
        """How often the limit turned lately."""
        return sum(self._turns)

    def trouble(self, limit: int, ttft: float) -> str | None:
        """Take an interval: the limit after it, and the TTFT in it. None while all is well."""
        self._turns.append(self._turned(limit))
        self._fell(limit, ttft)
        self._limit = limit
        if self.turns > TURNS:
            return SWINGING
        if len(self._falling) > FALLS and ttft > WORSE * self._falling[0]:
            return WORSE_WHILE_FALLING
        return None

    def _turned(self, limit: int) -> bool:
        """Whether the limit has come back from its last extreme far enough to be a turn."""
        if self._rising is None:
            if abs(limit - self._extreme) >= TURN * self._extreme:
                self._rising, self._extreme = limit > self._extreme, limit
            return False
        onwards = limit >= self._extreme if self._rising else limit <= self._extreme
        if onwards:
            self._extreme = limit
            return False
        if abs(limit - self._extreme) < TURN * self._extreme:
            return False
        self._rising, self._extreme = not self._rising, limit
        return True

    def _fell(self, limit: int, ttft: float) -> None:
        if limit >= self._limit:
            self._falling.clear()
            return
        self._falling.append(ttft)
        del self._falling[: -FALLS - 1]


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
        """An interval had this TTFT; whether it is calm now."""
        steady = self._last is None or 1 / STEADY <= ttft / max(self._last, 1e-9) <= STEADY
        self._last = ttft
        self._count = self._count + 1 if steady else 0
        return self._count >= self._wanted


#: The largest factor between the TTFT of two intervals that is steady: a P95 of some tens of
#: streams is itself no better than that.
STEADY: Final = 1.5
