"""A sliding window of sums: one sum for each slice of time, and old slices leave."""

from collections import deque
from collections.abc import Callable
from math import floor
from typing import Final, Generic, TypeVar

#: A window of a minute moves on by five seconds, the usual interval between two looks at it.
SLICES: Final = 12

T = TypeVar("T")


class Slices(Generic[T]):
    """Holds at most `count` sums, made by `make`, whatever is added to them.

    It covers the last `seconds`, less the part of the oldest slice that has left already: at
    least `(count - 1) / count` of them.

    Raises:
        ValueError: no time, or no slices.
    """

    def __init__(self, seconds: float, make: Callable[[], T], count: int = SLICES) -> None:
        if seconds <= 0 or count < 1:
            raise ValueError(f"a window needs seconds > 0 and slices >= 1: {seconds}, {count}")
        self._width = seconds / count
        self._make = make
        self._count = count
        self._slices: deque[tuple[int, T]] = deque(maxlen=count)

    def current(self, now: float) -> T:
        """The sum of this moment; `now` never goes backwards."""
        number = self._number(now)
        if not self._slices or self._slices[-1][0] != number:
            self._slices.append((number, self._make()))
        return self._slices[-1][1]

    def live(self, now: float) -> list[T]:
        """The sums that are within the window, oldest first."""
        oldest = self._number(now) - self._count
        while self._slices and self._slices[0][0] <= oldest:
            self._slices.popleft()
        return [each for _, each in self._slices]

    def _number(self, now: float) -> int:
        return floor(now / self._width)
