"""A circuit breaker: what fails again and again is left alone for a while, then tried once.

Pattern: Nygard, Release It! (2007).
"""

from enum import StrEnum


class BreakerState(StrEnum):
    """Closed: everything passes. Open: nothing. Half open: one probe is under way, or may be."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Opens after `failures` in a row, or when told to; `seconds` later it lets one probe pass.

    A probe that succeeds closes it, one that fails opens it again.

    Raises:
        ValueError: no failures, or no time.
    """

    def __init__(self, failures: int, seconds: float) -> None:
        if failures < 1 or seconds <= 0:
            raise ValueError(f"a breaker needs failures >= 1, seconds > 0: {failures}, {seconds}")
        self._failures = failures
        self._seconds = seconds
        self._in_a_row = 0
        self._opened: float | None = None
        self._probing = False
        self.openings = 0

    def state(self, now: float) -> BreakerState:
        """Where it stands."""
        if self._opened is None:
            return BreakerState.CLOSED
        if now - self._opened < self._seconds:
            return BreakerState.OPEN
        return BreakerState.HALF_OPEN

    def passes(self, now: float) -> bool:
        """Whether an attempt may be made now."""
        state = self.state(now)
        return state is BreakerState.CLOSED or (
            state is BreakerState.HALF_OPEN and not self._probing
        )

    def attempt(self, now: float) -> None:
        """An attempt begins; while half open it is the probe."""
        self._probing = self.state(now) is BreakerState.HALF_OPEN

    def abandon(self) -> None:
        """The attempt ended without a result: another may be the probe."""
        self._probing = False

    def succeeded(self) -> None:
        """The attempt did what it should."""
        self._in_a_row, self._opened, self._probing = 0, None, False

    def failed(self, now: float) -> None:
        """The attempt failed, or helped nothing."""
        self._in_a_row += 1
        if self._probing or self._in_a_row >= self._failures:
            self.open(now)

    def open(self, now: float) -> None:
        """Let nothing pass from now on."""
        self._opened, self._in_a_row, self._probing = now, 0, False
        self.openings += 1
