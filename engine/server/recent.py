"""What happened in the last minute: the figures that the requirements name as gauges."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Final

#: A gauge is over this many seconds: long enough for a percentile, short enough to follow.
WINDOW_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """One stream that ended. Times in seconds; `ttft` is None when no text came."""

    now: float
    outcome: str
    ttft: float | None
    tokens: int
    pipeline: bool
    hit: bool


class Recent:
    """Streams that ended within the window."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._ended: deque[Ended] = deque()

    def add(self, ended: Ended) -> None:
        """Remember a stream; forget those that left the window."""
        self._ended.append(ended)
        self._forget(ended.now)

    def ttft_p95_ms(self, now: float) -> float:
        """95th percentile of the time to first token, by nearest rank; 0 without any."""
        times = sorted(item.ttft for item in self._within(now) if item.ttft is not None)
        return 1000 * times[ceil(0.95 * len(times)) - 1] if times else 0.0

    def rps(self, now: float) -> float:
        """Streams completed a second."""
        return sum(item.outcome == "ok" for item in self._within(now)) / self._span(now)

    def tps(self, now: float) -> float:
        """Output tokens a second of the streams that ended."""
        return sum(item.tokens for item in self._within(now)) / self._span(now)

    def error_rate(self, now: float) -> float:
        """(failed + cut) / (ok + failed + cut); 0 without any."""
        outcomes = [item.outcome for item in self._within(now)]
        bad = outcomes.count("failed") + outcomes.count("cut")
        total = bad + outcomes.count("ok")
        return bad / total if total else 0.0

    def hit_rate(self, now: float) -> float:
        """Share of the pipeline's streams whose prompt came in part from the prefix store."""
        hits = [item.hit for item in self._within(now) if item.pipeline]
        return sum(hits) / len(hits) if hits else 0.0

    def _within(self, now: float) -> Iterator[Ended]:
        self._forget(now)
        return iter(self._ended)

    def _forget(self, now: float) -> None:
        while self._ended and self._ended[0].now < now - WINDOW_SECONDS:
            self._ended.popleft()

    def _span(self, now: float) -> float:
        """Seconds that the window covers; an engine just started has a short one."""
        return min(WINDOW_SECONDS, max(1.0, now - self._started))
