"""Who may run now: between the HTTP routes, the admission queue and the runtime.

Owns the queue and the table of live streams. The queue decides; this module does what it
decided.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from math import ceil
from typing import Final

from engine.core.admission import LATE, AdmissionQueue, Admit, Reject, Ticket
from engine.core.flags import ADAPTIVE_GOVERNOR, TTFT_PIPELINE
from engine.core.registry import StreamRegistry
from engine.runtime.interface import Runtime
from engine.server.errors import ApiError
from engine.server.governance import Governance
from engine.server.streams import Stream

#: A timer may fire a little early; the deadline must have passed when it does.
_TIMER_SLACK: Final = 0.005


class Dispatcher:
    """Admits streams, hands them to the runtime, and frees their places."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        queue: AdmissionQueue,
        registry: StreamRegistry,
        deadline_seconds: float,
        clock: Callable[[], float],
        governance: Governance,
        warm_seconds: float,
        shed_seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.queue = queue
        self.draining = False
        self._runtime = runtime
        self._registry = registry
        self._deadline_seconds = deadline_seconds
        self._clock = clock
        self._governance = governance
        self._shed_seconds = shed_seconds
        self._warm_seconds = warm_seconds
        self.streams: dict[int, Stream] = {}
        self._uids = count(1)
        self._idle = asyncio.Event()
        self._idle.set()

    def next_uid(self) -> int:
        """A stream id, unique for the life of the front end."""
        return next(self._uids)

    def check(self) -> None:
        """Refuse a request that cannot be served now.

        Raises:
            ApiError: 503 without a ready replica, while the engine drains, or while memory
                is short and newcomers are shed.
        """
        if self.draining:
            raise ApiError(
                status=503,
                message="the engine is stopping",
                code="draining",
                retry_after=1,
                shed=self._runtime.ready,
            )
        if not self._runtime.accepting:
            raise ApiError(
                status=503, message="the model is not ready", code="not_ready", retry_after=1
            )
        if seconds := self._shed_seconds():
            raise ApiError(
                status=503,
                message="the engine is short of memory",
                code="memory_pressure",
                retry_after=ceil(seconds),
                shed=self._runtime.ready,
            )

    def open(self, streams: Sequence[Stream], tenant: str) -> None:
        """Admit the streams of one request, all or none: each starts at once or waits.

        Raises:
            ApiError: 503 as for `check`; 429 or 503 with `Retry-After` when they are shed.
        """
        self.check()
        now = self._clock()
        tickets = [self._ticket(stream, tenant) for stream in streams]
        decisions = self.queue.offer_all(tickets, now)
        self._expire()  # a newcomer may have displaced others
        if isinstance(decisions, Reject):
            self._governance.shed(decisions.cause, len(tickets))
            raise _shed(decisions)
        for stream, ticket in zip(streams, tickets, strict=True):
            self.streams[stream.uid] = stream
            self._registry.admit(stream.uid, stream.flags, ticket.prompt_tokens, ticket.arrived)
        self._idle.clear()
        for ticket, decision in zip(tickets, decisions, strict=True):
            if isinstance(decision, Admit):
                self._start(ticket)
            elif ticket.pipeline:
                self._warm(ticket)
        if not all(isinstance(decision, Admit) for decision in decisions):
            wait = max(0.0, self._latest(tickets[0]) - now) + _TIMER_SLACK
            asyncio.get_running_loop().call_later(wait, self._expire)

    def _latest(self, ticket: Ticket) -> float:
        """When it is of no use any more to start it."""
        if not ticket.governed:
            return ticket.deadline
        return min(ticket.deadline, ticket.arrived + self._governance.target_seconds)

    def _ticket(self, stream: Stream, tenant: str) -> Ticket:
        return Ticket(
            stream_id=stream.uid,
            arrived=stream.times.arrived,
            deadline=stream.times.arrived + self._deadline_seconds,
            prompt_tokens=len(stream.job.prompt),
            pipeline=TTFT_PIPELINE in stream.flags,
            tenant=tenant,
            governed=ADAPTIVE_GOVERNOR in stream.flags,
        )

    def close(self, stream: Stream) -> None:
        """Give up a stream's place, running or waiting, and start who is next; once."""
        if self.streams.pop(stream.uid, None) is None:
            return  # the clean-up was first
        if not self.streams:
            self._idle.set()
        self.free(stream.uid)

    def free(self, uid: int) -> None:
        """Free a place, running or waiting, whoever had it, and start who is next."""
        self._runtime.forget(uid)
        self._runtime.cancel(uid)  # it may have ended by a stop string, or by its client
        if not self.queue.cancel(uid):
            self.queue.release(uid, self._clock())
        self.advance()

    def advance(self) -> None:
        """Start every waiting stream that has a place; first give up those that are late."""
        for ticket in self.queue.ready(self._clock()):
            self._start(ticket)
        self._expire()

    def prefilled(self) -> None:
        """Part of a prompt was read: somebody may have waited for just that."""
        if self.queue.held_back:
            self.advance()

    def set_limit(self, limit: int) -> None:
        """Change how many streams run at once."""
        if limit != self.queue.limit:
            self.queue.set_limit(limit)
            self.advance()

    def end_overdue(self, seconds: float) -> int:
        """End every stream that has lived for `seconds`; returns how many there were."""
        late = self._registry.overdue(seconds, self._clock())
        for uid in late:
            self.streams[uid].post(_overdue(seconds))
        return len(late)

    def abort(self, error: ApiError) -> None:
        """End every live stream with an error."""
        for stream in self.streams.values():
            stream.post(error)

    def without(self, flags: Iterable[str]) -> None:
        """Let treated streams go on without these flags, as far as they matter once it runs.

        The runtime knows of one. What the others did for a stream is done, or ends with their
        share: admission, the connection, monitoring.
        """
        if TTFT_PIPELINE not in flags:
            return
        for stream in self.streams.values():
            if TTFT_PIPELINE in stream.flags and not stream.plain:
                stream.plain = True
                self._runtime.forget(stream.uid)
                self._runtime.simplify(stream.uid)

    async def idle(self) -> None:
        """Wait until no stream lives."""
        await self._idle.wait()

    def _start(self, ticket: Ticket) -> None:
        stream = self.streams.get(ticket.stream_id)
        if stream is None:
            return  # nobody's: the clean-up frees the slot
        stream.times.submitted = self._clock()
        self._registry.start(stream.uid, stream.times.submitted)
        self._runtime.submit(stream.submission(pipeline=ticket.pipeline), stream)

    def _warm(self, ticket: Ticket) -> None:
        """Let the runtime prepare for a stream that waits, and order it by what that leaves."""
        stream, total = self.streams[ticket.stream_id], ticket.prompt_tokens

        def on_known(tokens: int) -> None:
            self.queue.expect(ticket.stream_id, total - tokens)

        self._runtime.warm(stream.announcement(self._warm_seconds), on_known)

    def _expire(self) -> None:
        for ticket in self.queue.expired(self._clock()):
            stream = self.streams.get(ticket.stream_id)
            if stream is None:
                continue  # nobody's, and gone with this
            if ticket.governed:
                self._governance.shed(LATE)
                stream.post(_too_late(self._governance.target_seconds))
            else:
                stream.post(_late(self._deadline_seconds))


def _shed(decision: Reject) -> ApiError:
    return ApiError(
        status=decision.status,
        message=f"no place for this request: {decision.reason}",
        code="overloaded",
        retry_after=ceil(decision.retry_after),
        shed=True,
    )


def _too_late(seconds: float) -> ApiError:
    return ApiError(
        status=429,
        message=f"no place for this request within {seconds:g} s",
        code="overloaded",
        retry_after=1,  # the queue moves on within the target, which is shorter
        shed=True,
    )


def _overdue(seconds: float) -> ApiError:
    return ApiError(
        status=504,
        message=f"not at its end after {seconds:g} s, which is the longest that a stream may live",
        code="stream_deadline",
    )


def _late(seconds: float) -> ApiError:
    return ApiError(
        status=504,
        message=f"waited {seconds:g} s for a place, which is the longest allowed",
        code="queue_deadline",
    )
