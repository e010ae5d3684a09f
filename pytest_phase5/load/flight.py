"""One request, from its scheduled time to its sample."""

import asyncio
from dataclasses import dataclass, field

from gates.samples import Sample
from pytest_phase5.load.answer import OK, Ending, refusal
from pytest_phase5.load.client import Client, Response, TransportError
from pytest_phase5.load.logbook import STOPPED, Logbook
from pytest_phase5.load.ticket import READY_PATH, Seen, Ticket, has_enough, left


@dataclass(slots=True, kw_only=True)
class Flights(Logbook):
    """Sends requests and keeps the samples of the measured ones."""

    client: Client
    samples: list[Sample] = field(default_factory=list)

    @property
    def protocol(self) -> str:
        """The client's."""
        return self.client.protocol

    def keep(self, ticket: Ticket, sample: Sample) -> None:  # noqa: ARG002 - of the base
        """Take the sample of a measured request."""
        self.samples.append(sample)

    async def fly(self, ticket: Ticket, scheduled: float) -> float:
        """Send one request, record its sample and return its end."""
        seen = self.take_off()
        try:
            ending = await self._ending(ticket, seen)
        except asyncio.CancelledError:
            self.land(ticket, scheduled, seen, STOPPED)
            raise
        finally:
            self.ended += 1
        return self.land(ticket, scheduled, seen, ending)

    async def _ending(self, ticket: Ticket, seen: Seen) -> Ending:
        try:
            async with asyncio.timeout(self.limit(ticket)):
                return await self._exchange(ticket, seen)
        except TimeoutError:
            return self.out_of_time(ticket)
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
