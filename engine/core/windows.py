"""Samples of the last seconds, and exact quantiles of them."""

from collections import deque
from collections.abc import Iterable
from math import ceil
from typing import Generic, TypeVar

T = TypeVar("T")


class SlidingWindow(Generic[T]):
    """What was added within the last `seconds`, at most the newest `max_samples` of it.

    Raises:
        ValueError: no time, or no samples.
    """

    def __init__(self, seconds: float, max_samples: int) -> None:
        if seconds <= 0 or max_samples < 1:
            raise ValueError(
                f"a window needs seconds > 0 and max_samples >= 1, given {seconds}, {max_samples}"
            )
        self._seconds = seconds
        self._samples: deque[tuple[float, T]] = deque(maxlen=max_samples)

    def add(self, sample: T, now: float) -> None:
        """Add a sample; `now` never goes backwards."""
        self._samples.append((now, sample))

    def samples(self, now: float) -> list[T]:
        """The samples that are less than `seconds` old, oldest first."""
        while self._samples and self._samples[0][0] <= now - self._seconds:
            self._samples.popleft()
        return [sample for _, sample in self._samples]


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed.

    An order statistic, not an interpolation: it is always one of the values.

    Raises:
        ValueError: no values, or a share outside 0 to 1.
    """
    ordered = sorted(values)
    if not ordered or not 0 <= share <= 1:
        raise ValueError(f"no quantile {share} of {len(ordered)} values")
    return ordered[max(ceil(share * len(ordered)), 1) - 1]
