"""Who starts now, who waits, who is turned away.

One queue for everyone. Control streams keep the positions of their arrival. Streams of the
TTFT pipeline's treatment change places only with treatment neighbours: within a run of
treatment streams with no control stream between them, the shortest prefill goes first. So
none passes a control stream that came earlier, and what treatment does among itself moves
no control stream.

Streams of the governor's treatment have a `Guard`: it may turn one away that would be late,
hold one back while too much is being read, and see to fairness between tenants. They too
never pass a control stream that came earlier.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

from engine.core.guarding import Guard, Unguarded
from engine.core.registry import StreamId

#: Too many requests: the client should come back after `retry_after`.
TOO_MANY_REQUESTS: Final = 429

#: Shorter waits than this are not worth telling a client: `Retry-After` has whole seconds.
MIN_RETRY_SECONDS: Final = 1.0

#: The completion rate is taken over this many ends: enough to smooth one batch that ends
#: together, few enough to follow a change of load.
RECENT_COMPLETIONS: Final = 64


#: Why a stream is shed: no place in the queue; it would be late, or has become so; it made
#: place for a tenant that has less.
QUEUE_FULL: Final = "queue_full"
WOULD_BE_LATE: Final = "would_be_late"
LATE: Final = "late"
DISPLACED: Final = "displaced"
CAUSES: Final = (QUEUE_FULL, WOULD_BE_LATE, LATE, DISPLACED)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A stream that asks for a slot. `pipeline` marks treatment of `ttft_pipeline`.

    `governed` marks treatment of `adaptive_governor`, and `tenant` says who shares a fair part.

    `prompt_tokens` are those that it has to read; `expect` lowers them once more is known.
    `arrived` and `deadline` are times of the clock that gives `now`; past its deadline a
    stream that still waits is no longer worth starting.
    """

    stream_id: StreamId
    arrived: float
    deadline: float
    prompt_tokens: int
    pipeline: bool
    tenant: str = ""
    governed: bool = False


@dataclass(frozen=True, slots=True)
class Admit:
    """Start at once: the slot is taken."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Wait: `position` 1 is the next in order of arrival."""

    position: int


@dataclass(frozen=True, slots=True)
class Reject:
    """Turn away with an HTTP status; the client may come back after `retry_after` seconds.

    `cause` is one word of `CAUSES`, for counting; `reason` is for the client.
    """

    status: int
    retry_after: float
    reason: str
    cause: str = QUEUE_FULL


Decision = Admit | Queue | Reject


class AdmissionQueue:
    """At most `limit` streams run, at most `capacity` wait.

    Ageing: each second of waiting counts as `ageing_tokens_per_second` prompt tokens less,
    so a stream of P tokens is passed only by those that come within P / ageing seconds of it.

    After `release` and `set_limit`, call `ready` and start what it gives.

    Raises:
        ValueError: a negative capacity or ageing.
    """

    def __init__(
        self,
        limit: int,
        capacity: int,
        ageing_tokens_per_second: float,
        guard: Guard | None = None,
    ) -> None:
        if capacity < 0 or ageing_tokens_per_second < 0:
            raise ValueError(
                f"capacity {capacity} and ageing {ageing_tokens_per_second} must not be negative"
            )
        self.set_limit(limit)
        self._capacity = capacity
        self._ageing = ageing_tokens_per_second
        self._guard: Guard = guard or Unguarded()
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

    @property
    def held_back(self) -> bool:
        """Whether somebody waits although slots are free: for prompts to be read."""
        return bool(self._waiting) and self._has_slot()

    @property
    def stream_ids(self) -> frozenset[StreamId]:
        """Every stream that holds a slot or a place, or is about to hear that it is late."""
        return frozenset(self._running).union(self._waiting, self._late)

    def set_limit(self, limit: int) -> None:
        """Allow `limit` streams at once. A lower one takes effect as running streams end.

        Raises:
            ValueError: the limit is below 1.
        """
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
        startable = self._startable(tickets, now)
        wait = len(tickets) - startable
        if wait > 0 and tickets[0].governed:
            refusal = self._guard.refusal(
                tickets[0], self._waiting.values(), len(self._running), self._limit, now
            )
            if refusal:
                return refusal
        if not self._make_room(tickets[0], wait):
            return Reject(TOO_MANY_REQUESTS, self._retry_after(tickets[0], now), self._full())
        return [self._take(ticket, now) for ticket in tickets]

    def release(self, stream_id: StreamId, now: float) -> bool:
        """A running stream ended, however it ended. False when it held no slot."""
        if stream_id not in self._running:
            return False
        self._running.remove(stream_id)
        self._ends.append(now)
        self._guard.released(stream_id, now)
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
            ticket = self._next(now)
            if not self._fits(ticket, now):
                break  # nobody passes it, else a long prompt would never begin
            del self._waiting[ticket.stream_id]
            self._start(ticket, now)
            started.append(ticket)
        return started

    def expired(self, now: float) -> list[Ticket]:
        """The streams whose deadline passed while they waited, each given out once."""
        self._set_late_aside(now)
        late = list(self._late.values())
        self._late.clear()
        return late

    def _take(self, ticket: Ticket, now: float) -> Admit | Queue:
        if self._knows(ticket.stream_id):
            raise ValueError(f"stream {ticket.stream_id} asks for a second slot")
        if self._startable([ticket], now):
            self._start(ticket, now)
            return Admit()
        self._waiting[ticket.stream_id] = ticket
        return Queue(len(self._waiting))

    def _start(self, ticket: Ticket, now: float) -> None:
        self._running.add(ticket.stream_id)
        self._guard.started(ticket, now)

    def _startable(self, tickets: Sequence[Ticket], now: float) -> int:
        """How many of a request's streams, from the first on, would start at once."""
        slots = 0 if self._waiting else max(0, self._limit - len(self._running))
        fitting = takewhile(
            lambda place: self._fits(tickets[place], now, tickets[:place]), range(len(tickets))
        )
        return min(slots, sum(1 for _ in fitting))

    def _fits(self, ticket: Ticket, now: float, before: Sequence[Ticket] = ()) -> bool:
        return not ticket.governed or self._guard.fits(ticket, now, before)

    def _make_room(self, ticket: Ticket, count: int) -> bool:
        """Whether so many places are free, now that the guard has had a say."""
        missing = count - max(0, self._capacity - len(self._waiting))
        if count <= 0 or missing <= 0:
            return True
        displaced = (
            self._guard.displaced(ticket, self._waiting.values(), missing)
            if ticket.governed
            else []
        )
        if len(displaced) < missing:
            return False
        self._set_aside(displaced)
        return True

    def _knows(self, stream_id: StreamId) -> bool:
        return any(stream_id in place for place in (self._running, self._waiting, self._late))

    def _has_slot(self) -> bool:
        return len(self._running) < self._limit

    def _set_late_aside(self, now: float) -> None:
        waiting = self._waiting.values()
        late = [ticket for ticket in waiting if ticket.deadline <= now]
        self._set_aside([*late, *self._guard.late(waiting, now)])

    def _set_aside(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            self._late[ticket.stream_id] = self._waiting.pop(ticket.stream_id, ticket)

    def _next(self, now: float) -> Ticket:
        """The head when it is control, else the best of the treatment run at the head."""
        waiting = list(self._waiting.values())
        governed = list(takewhile(lambda ticket: ticket.governed, waiting))
        if governed:
            waiting = list(self._guard.turn(governed, self._limit, now))
        run = list(takewhile(lambda ticket: ticket.pipeline, waiting))
        return min(run, key=self._cost) if run else waiting[0]

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
