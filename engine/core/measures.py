"""What a service level is about: metrics of streams, in sums that can be added up.

Only single streams are counted, never averages of streams: an average is no sample.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final, Self

from engine.core.registry import StreamEvent
from engine.core.tdigest import TDigest

MILLISECONDS: Final = 1000.0

#: Stretches of work that one sum tells apart. Beyond it the shortest pause counts as work, and
#: a slice with so many pauses has short ones.
MAX_SPANS: Final = 64


@dataclass(frozen=True, slots=True)
class Measurement:
    """A metric's value and the number of streams behind it."""

    value: float
    n: int


class Tally(ABC):
    """The sum of a metric over some streams, in bounded memory."""

    @abstractmethod
    def observe(self, event: StreamEvent) -> None:
        """Take in the end of a stream, whatever it was."""

    @abstractmethod
    def absorb(self, other: Self) -> None:
        """Add what another one of the same metric holds."""

    @abstractmethod
    def measure(self) -> Measurement | None:
        """The value; None when no stream said anything about it."""


class QuantileTally(Tally):
    """A quantile, in milliseconds, of a time that some streams have, in seconds."""

    def __init__(self, time: Callable[[StreamEvent], float | None], share: float) -> None:
        self._time = time
        self._share = share
        self._digest = TDigest()

    def observe(self, event: StreamEvent) -> None:
        """Take in the stream's time, if it has one."""
        seconds = self._time(event)
        if seconds is not None:
            self._digest.add(seconds * MILLISECONDS)

    def absorb(self, other: Self) -> None:
        """Add another digest."""
        self._digest.merge(other._digest)

    def measure(self) -> Measurement | None:
        """The quantile, by nearest rank."""
        n = self._digest.n
        return Measurement(self._digest.quantile(self._share), n) if n else None


class ErrorTally(Tally):
    """Errors of all that ended by our doing; a client that leaves proves neither."""

    def __init__(self) -> None:
        self._bad = 0
        self._all = 0

    def observe(self, event: StreamEvent) -> None:
        """Count good ends and bad ones: a rate needs both."""
        self._all += event.kind != "cancelled"
        self._bad += event.kind == "error"

    def absorb(self, other: Self) -> None:
        """Add other counts."""
        self._all += other._all
        self._bad += other._bad

    def measure(self) -> Measurement | None:
        """A share, 0 to 1."""
        return Measurement(self._bad / self._all, self._all) if self._all else None


class ThroughputTally(Tally):
    """Output tokens for each second in which a stream lived: idle time is not slowness."""

    def __init__(self) -> None:
        self._tokens = 0
        self._n = 0
        self._spans: list[tuple[float, float]] = []  # apart, in order

    def observe(self, event: StreamEvent) -> None:
        """Count a stream's tokens and the time of its life."""
        self._tokens += event.output_tokens
        self._n += 1
        self._cover([(event.now - event.duration, event.now)])
        while len(self._spans) > MAX_SPANS:
            _close_shortest_pause(self._spans)

    def absorb(self, other: Self) -> None:
        """Add other tokens; time that both cover counts once."""
        self._tokens += other._tokens
        self._n += other._n
        self._cover(other._spans)

    def measure(self) -> Measurement | None:
        """Tokens a second."""
        seconds = sum(end - start for start, end in self._spans)
        return Measurement(self._tokens / seconds, self._n) if seconds else None

    def _cover(self, more: Iterable[tuple[float, float]]) -> None:
        joined: list[tuple[float, float]] = []
        for start, end in sorted((*self._spans, *more)):
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(joined[-1][1], end))
            else:
                joined.append((start, end))
        self._spans = joined


def _close_shortest_pause(spans: list[tuple[float, float]]) -> None:
    at = min(range(1, len(spans)), key=lambda i: spans[i][0] - spans[i - 1][1])
    spans[at - 1 : at + 1] = [(spans[at - 1][0], spans[at][1])]


def _ttft(limit_ms: float) -> Callable[[StreamEvent], float | None]:
    """Time to first token; of a stream that waited beyond the limit for none, its wait.

    However it ended: a stream that nobody waited for any longer was not fast.
    """

    def time(event: StreamEvent) -> float | None:
        if event.ttft is None and event.duration * MILLISECONDS > limit_ms:
            return event.duration
        return event.ttft

    return time


def _latency(event: StreamEvent) -> float | None:
    """Of completed streams: one that broke off early was not fast."""
    return event.duration if event.kind == "completed" else None


#: Every metric that a policy may name: makes a sum, given the policy's ceiling if it has one.
METRICS: Final[Mapping[str, Callable[[float | None], Tally]]] = {
    "ttft_p95_ms": lambda ceiling: QuantileTally(_ttft(inf if ceiling is None else ceiling), 0.95),
    "latency_p99_ms": lambda _: QuantileTally(_latency, 0.99),
    "error_rate": lambda _: ErrorTally(),
    "throughput_tps": lambda _: ThroughputTally(),
}
