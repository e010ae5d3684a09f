"""One request, from its scheduled time to its sample."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from gates.samples import Outcome, Sample
from pytest_phase5.load.answer import OK, Ending, refusal
from pytest_phase5.load.client import Client, Response, TransportError
from pytest_phase5.load.ticket import (
    ERRORS,
    READY_PATH,
    Seen,
    Ticket,
    has_enough,
    left,
    sample_of,
)


@dataclass(slots=True, kw_only=True)
class Flights:
    """Sends requests and keeps the samples of the measured ones."""

    client: Client
    clock: Callable[[], float]  #: seconds from the start of the run
    timeout: float
    samples: list[Sample] = field(default_factory=list)
    sent: int = 0  #: this and the next three count the warm-up too
    ended: int = 0
    errors: int = 0
    dropped: int = 0

    @property
    def in_flight(self) -> int:
        """Requests that were sent and have not ended."""
        return self.sent - self.ended

    async def fly(self, ticket: Ticket, scheduled: float) -> float:
        """Send one request, record its sample and return its end."""
        seen = Seen(sent=self.clock())
        self.sent += 1
        try:
            ending = await self._ending(ticket, seen)
        except asyncio.CancelledError:
            self._land(ticket, scheduled, seen, Ending(Outcome.CANCELLED, "run stopped"))
            raise
        finally:
            self.ended += 1
        self.errors += ending.outcome in ERRORS
        return self._land(ticket, scheduled, seen, ending)

    def drop(self, ticket: Ticket, scheduled: float) -> None:
        """Record a request that there was no room for."""
        self.dropped += 1
        ending = Ending(Outcome.DROPPED, "too many in flight")
        self._record(ticket, scheduled, Seen(sent=scheduled), ending, None)

    async def _ending(self, ticket: Ticket, seen: Seen) -> Ending:
        leave = ticket.shot.request.leave_after
        patience = leave.seconds if leave and leave.seconds is not None else inf
        try:
            async with asyncio.timeout(min(self.timeout, patience)):
                return await self._exchange(ticket, seen)
        except TimeoutError:
            if patience < self.timeout:
                return left(f"{patience:g} s")
            return Ending(Outcome.FAILED, "timeout")
        except TransportError as error:
            return seen.broken(str(error))

    async def _exchange(self, ticket: Ticket, seen: Seen) -> Ending:
        request = ticket.shot.request
        url = ticket.base + request.path
        async with self.client.post(url, ticket.body, ticket.headers) as response:
            seen.head(response.status, response.headers.get, response.protocol)
            if response.status != OK:
                seen.end = self.clock()
                return await self._refused(ticket, response)
            seen.answer = answer = ticket.answer()
            async for data in response.chunks():
                answer.feed(data, self.clock())
                if has_enough(request.leave_after, answer):
                    return left(f"{answer.facts.pieces} tokens")
            return answer.ending()

    async def _refused(self, ticket: Ticket, response: Response) -> Ending:
        retry_after = "Retry-After" in response.headers
        asks = response.status == 503 and retry_after  # noqa: PLR2004 - Service Unavailable
        ready = asks and await self._is_ready(ticket.base)
        return refusal(response.status, retry_after=retry_after, ready=ready)

    async def _is_ready(self, base: str) -> bool:
        try:
            status, _ = await self.client.get(base + READY_PATH)
        except TransportError:
            return False  # who cannot be asked is not ready
        return status == OK

    def _land(self, ticket: Ticket, scheduled: float, seen: Seen, ending: Ending) -> float:
        end = self.clock() if seen.end is None else seen.end
        self._record(ticket, scheduled, seen, ending, end)
        return end

    def _record(
        self, ticket: Ticket, scheduled: float, seen: Seen, ending: Ending, end: float | None
    ) -> None:
        seen.protocol = seen.protocol or self.client.protocol
        sample = sample_of(ticket, scheduled, seen, ending, end)
        if sample is not None:
            self.samples.append(sample)
