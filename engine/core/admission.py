"""Who starts now, who waits, who is turned away.

One queue for everyone. Control streams keep the positions of their arrival. Streams of the
TTFT pipeline's treatment change places only with treatment neighbours: within a run of
treatment streams with no control stream between them, the shortest prefill goes first. So
none passes a control stream that came earlier, and what treatment does among itself moves
no control stream.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

from engine.core.registry import StreamId

#: Too many requests: the client should come back after `retry_after`.
TOO_MANY_REQUESTS: Final = 429

#: Shorter waits than this are not worth telling a client: `Retry-After` has whole seconds.
MIN_RETRY_SECONDS: Final = 1.0

#: The completion rate is taken over this many ends: enough to smooth one batch that ends
#: together, few enough to follow a change of load.
RECENT_COMPLETIONS: Final = 64


@dataclass(frozen=True, slots=True)
class Ticket:
    """A stream that asks for a slot. `pipeline` marks treatment of `ttft_pipeline`.

    `prompt_tokens` are those that it has to read; `expect` lowers them once more is known.
    `arrived` and `deadline` are times of the clock that gives `now`; past its deadline a
    stream that still waits is no longer worth starting.
    """

    stream_id: StreamId
    arrived: float
    deadline: float
    prompt_tokens: int
    pipeline: bool


@dataclass(frozen=True, slots=True)
class Admit:
    """Start at once: the slot is taken."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Wait: `position` 1 is the next in order of arrival."""

    position: int


@dataclass(frozen=True, slots=True)
class Reject:
    """Turn away with an HTTP status; the client may come back after `retry_after` seconds."""

    status: int
    retry_after: float
    reason: str


Decision = Admit | Queue | Reject


class AdmissionQueue:
    """At most `limit` streams run, at most `capacity` wait.

    Ageing: each second of waiting counts as `ageing_tokens_per_second` prompt tokens less,
    so a stream of P tokens is passed only by those that come within P / ageing seconds of it.

    After `release` and `set_limit`, call `ready` and start what it gives.
    """

    def __init__(self, limit: int, capacity: int, ageing_tokens_per_second: float) -> None:
        if capacity < 0 or ageing_tokens_per_second < 0:
            raise ValueError(
                f"capacity {capacity} and ageing {ageing_tokens_per_second} must not be negative"
            )
        self.set_limit(limit)
        self._capacity = capacity
        self._ageing = ageing_tokens_per_second
        self._running: set[StreamId] = set()
        self._waiting: dict[StreamId, Ticket] = {}  # in order of arrival
        self._late: dict[StreamId, Ticket] = {}  # past the deadline, not yet handed out
        self._ends: deque[float] = deque(maxlen=RECENT_COMPLETIONS)

    @property
    def limit(self) -> int:
        """How many streams may run at once."""
        return self._limit

    @property
    def running(self) -> int:
        """How many streams hold a slot."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many streams wait for a slot."""
        return len(self._waiting)

    def set_limit(self, limit: int) -> None:
        """Allow `limit` streams at once. A lower one takes effect as running streams end."""
        if limit < 1:
            raise ValueError(f"the limit of streams must be at least 1, given {limit}")
        self._limit = limit

    def offer(self, ticket: Ticket, now: float) -> Decision:
        """Decide on a new stream.

        Raises:
            ValueError: the stream runs or waits already.
        """
        decision = self.offer_all([ticket], now)
        return decision if isinstance(decision, Reject) else decision[0]

    def offer_all(self, tickets: Sequence[Ticket], now: float) -> list[Admit | Queue] | Reject:
        """Decide on streams of one request that have the same deadline: all are taken, or none.

        Raises:
            ValueError: as for `offer`; no ticket at all.
        """
        if not tickets:
            raise ValueError("a request asks for at least one slot")
        self._set_late_aside(now)
        slots = 0 if self._waiting else max(0, self._limit - len(self._running))
        room = slots + self._capacity - len(self._waiting)
        if len(tickets) > room:
            return Reject(TOO_MANY_REQUESTS, self._retry_after(tickets[0], now), self._full())
        return [self._take(ticket) for ticket in tickets]

    def release(self, stream_id: StreamId, now: float) -> bool:
        """A running stream ended, however it ended. False when it held no slot."""
        if stream_id not in self._running:
            return False
        self._running.remove(stream_id)
        self._ends.append(now)
        return True

    def cancel(self, stream_id: StreamId) -> bool:
        """Forget a waiting stream. False when it did not wait."""
        tickets = (self._waiting.pop(stream_id, None), self._late.pop(stream_id, None))
        return any(tickets)

    def expect(self, stream_id: StreamId, tokens: int) -> None:
        """A waiting stream will read so many tokens, since the rest is known. Else ignored."""
        if ticket := self._waiting.get(stream_id):
            self._waiting[stream_id] = replace(ticket, prompt_tokens=tokens)

    def ready(self, now: float) -> list[Ticket]:
        """The waiting streams that start now, in order. Their slots are taken."""
        self._set_late_aside(now)
        started = []
        while self._waiting and self._has_slot():
            ticket = self._next()
            del self._waiting[ticket.stream_id]
            self._running.add(ticket.stream_id)
            started.append(ticket)
        return started

    def expired(self, now: float) -> list[Ticket]:
        """The streams whose deadline passed while they waited, each given out once."""
        self._set_late_aside(now)
        late = list(self._late.values())
        self._late.clear()
        return late

    def _take(self, ticket: Ticket) -> Admit | Queue:
        if self._knows(ticket.stream_id):
            raise ValueError(f"stream {ticket.stream_id} asks for a second slot")
        if not self._waiting and self._has_slot():
            self._running.add(ticket.stream_id)
            return Admit()
        self._waiting[ticket.stream_id] = ticket
        return Queue(len(self._waiting))

    def _knows(self, stream_id: StreamId) -> bool:
        return any(stream_id in place for place in (self._running, self._waiting, self._late))

    def _has_slot(self) -> bool:
        return len(self._running) < self._limit

    def _set_late_aside(self, now: float) -> None:
        late = {id_: ticket for id_, ticket in self._waiting.items() if ticket.deadline <= now}
        self._late |= late
        for stream_id in late:
            del self._waiting[stream_id]

    def _next(self) -> Ticket:
        """The head when it is control, else the best of the treatment run at the head."""
        run = list(takewhile(lambda ticket: ticket.pipeline, self._waiting.values()))
        return min(run, key=self._cost) if run else next(iter(self._waiting.values()))

    def _cost(self, ticket: Ticket) -> float:
        # Aged cost is prompt_tokens - ageing * (now - arrived); `now` is the same for all.
        return ticket.prompt_tokens + self._ageing * ticket.arrived

    def _retry_after(self, ticket: Ticket, now: float) -> float:
        """When the queue will have drained, at the recent rate of completions.

        Nobody waits longer than to the deadline, so the queue has turned over by then: that
        bounds the estimate, and stands in for it while nothing has completed yet.
        """
        patience = max(MIN_RETRY_SECONDS, ticket.deadline - now)
        if not self._ends:
            return patience
        seconds_each = (now - self._ends[0]) / len(self._ends)
        return min(patience, max(MIN_RETRY_SECONDS, seconds_each * len(self._waiting)))

    def _full(self) -> str:
        return (
            f"{self.running} streams run (limit {self._limit}) "
            f"and {self.waiting} wait (limit {self._capacity})"
        )
