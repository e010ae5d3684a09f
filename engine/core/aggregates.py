"""All streams together, told on an interval to those who ask for it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from engine.core.windows import SlidingWindow, quantile

#: Quantiles are over this many seconds: long enough for a 95th percentile at the rates of one
#: machine, short enough to follow a change of load.
WINDOW_SECONDS: Final = 60.0
#: A minute at 160 streams a second, well above what one machine serves: it bounds memory.
MAX_SAMPLES: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many streams there were since the start, how many live, and who listens.

    What a leak check compares: after the last stream, `live` is 0 and `listeners` as before.
    """

    admitted: int
    completed: int
    failed: int
    cancelled: int
    live: int
    queued: int
    running: int
    output_tokens: int
    listeners: int


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of times in seconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """What happened in the `seconds` since the last one, and how things stand now.

    `ttft` is of streams whose first token came within the window, `duration` of those that
    completed within it; None where there was none, since no data is not a time of 0.
    `utilisation` is running streams for each slot; above 1 while a lowered limit takes effect.
    """

    now: float
    seconds: float
    live: int
    queued: int
    running: int
    admitted: int
    completed: int
    failed: int
    cancelled: int
    ttft: Quantiles | None
    duration: Quantiles | None
    tokens_per_second: float
    limit: int
    utilisation: float


AggregateListener = Callable[[Aggregate], None]


@dataclass(slots=True)
class _Subscription:
    listener: AggregateListener
    seconds: float
    last: float
    before: Counts


class Aggregates:
    """Owns the windows, and who is told how often."""

    def __init__(self) -> None:
        self._ttft = SlidingWindow[float](WINDOW_SECONDS, MAX_SAMPLES)
        self._duration = SlidingWindow[float](WINDOW_SECONDS, MAX_SAMPLES)
        self._subscriptions: list[_Subscription] = []

    @property
    def subscribers(self) -> int:
        """How many are told."""
        return len(self._subscriptions)

    def subscribe(
        self, listener: AggregateListener, seconds: float, counts: Counts, now: float
    ) -> None:
        """Tell `listener` every `seconds` from now on, and what changed since it was last told.

        Raises:
            ValueError: an interval that is not above 0.
        """
        if seconds <= 0:
            raise ValueError(f"the interval must be above 0 seconds, given {seconds}")
        self._subscriptions.append(_Subscription(listener, seconds, now, counts))

    def first_token(self, ttft: float, now: float) -> None:
        """A stream's first token came, `ttft` seconds after its admission."""
        self._ttft.add(ttft, now)

    def completed(self, duration: float, now: float) -> None:
        """A stream ended well, after so many seconds."""
        self._duration.add(duration, now)

    def due(
        self, counts: Counts, limit: int, now: float
    ) -> list[tuple[AggregateListener, Aggregate]]:
        """Whom to tell what now. One who was not asked for in time is told once, not twice."""
        told = []
        for each in self._subscriptions:
            if now - each.last >= each.seconds:
                told.append((each.listener, self._aggregate(each, counts, limit, now)))
                each.last, each.before = now, counts
        return told

    def _aggregate(self, since: _Subscription, counts: Counts, limit: int, now: float) -> Aggregate:
        seconds, before = now - since.last, since.before
        return Aggregate(
            now=now,
            seconds=seconds,
            live=counts.live,
            queued=counts.queued,
            running=counts.running,
            admitted=counts.admitted - before.admitted,
            completed=counts.completed - before.completed,
            failed=counts.failed - before.failed,
            cancelled=counts.cancelled - before.cancelled,
            ttft=_quantiles(self._ttft.samples(now)),
            duration=_quantiles(self._duration.samples(now)),
            tokens_per_second=(counts.output_tokens - before.output_tokens) / seconds,
            limit=limit,
            utilisation=counts.running / limit,
        )


def _quantiles(seconds: list[float]) -> Quantiles | None:
    if not seconds:
        return None
    ordered = sorted(seconds)
    return Quantiles(*(quantile(ordered, share) for share in (0.50, 0.95, 0.99)))
