"""What holds remedies back: the safeguards of one actuator.

1. one owner: while one policy's remedy is in effect, no other policy moves the actuator;
2. cooldown after each move, so that its effect can show;
3. at most so many moves within a window;
4. loops: an actuator that is moved to and fro opens the breaker;
5. the breaker, which failures and remedies without effect open as well.
"""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from engine.core.breaker import Breaker


class Refusal(StrEnum):
    """Why a remedy is not tried now."""

    OWNED = "owned"
    COOLDOWN = "cooldown"
    RATE_LIMIT = "rate_limit"
    LOOP = "loop"
    BREAKER = "breaker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The numbers of the safeguards: the fields of `RemediationConfig`, where they are explained.

    Seconds, and counts.
    """

    cooldown_seconds: float = 60
    settle_seconds: float = 30
    max_per_window: int = 5
    window_seconds: float = 300
    loop_moves: int = 4
    loop_seconds: float = 900
    breaker_failures: int = 3
    breaker_seconds: float = 300


class Safeguards:
    """Of one actuator. Owns who owns it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._last: float | None = None
        self._recent: deque[float] = deque(maxlen=limits.max_per_window)
        self._turns: deque[tuple[int, float]] = deque(maxlen=limits.loop_moves - 1)
        self.breaker = Breaker(limits.breaker_failures, limits.breaker_seconds)
        self.owner: str | None = None

    def cooling(self, now: float) -> float:
        """Seconds until another move may be made; 0 when it may."""
        if self._last is None:
            return 0.0
        return max(0.0, self._last + self._limits.cooldown_seconds - now)

    def refusal(self, policy: str, direction: int, now: float) -> Refusal | None:
        """Why a policy may not move the actuator now; None when it may.

        A move that would close a loop is refused, and opens the breaker.
        """
        if self.owner not in (None, policy):
            return Refusal.OWNED
        if self.cooling(now):
            return Refusal.COOLDOWN
        if not self.breaker.passes(now):
            return Refusal.BREAKER
        if self._at_rate(now):
            return Refusal.RATE_LIMIT
        if self._loops(direction, now):
            self._turns.clear()
            self.breaker.open(now)
            return Refusal.LOOP
        return None

    def moves(self, policy: str, direction: int, now: float) -> None:
        """A remedy is tried."""
        self.owner = policy
        self._recent.append(now)
        self.breaker.attempt(now)
        self.moved(direction, now)

    def moved(self, direction: int, now: float) -> None:
        """The actuator moved, by a remedy or back after one. Moves the same way are one turn."""
        self._last = now
        if direction == 0:
            return
        if self._turns and self._turns[-1][0] == direction:
            self._turns.pop()
        self._turns.append((direction, now))

    def rests(self, now: float) -> None:
        """A move took until now: only now its effect begins to show."""
        self._last = now

    def release(self) -> None:
        """Nothing is in effect any more."""
        self.owner = None
        self.breaker.abandon()

    def _at_rate(self, now: float) -> bool:
        full = len(self._recent) == self._limits.max_per_window
        return full and now - self._recent[0] < self._limits.window_seconds

    def _loops(self, direction: int, now: float) -> bool:
        """Whether this move and those before it alternate, all of them within the time."""
        return (
            len(self._turns) == self._limits.loop_moves - 1
            and self._turns[-1][0] == -direction
            and now - self._turns[0][1] < self._limits.loop_seconds
        )
