"""Requests on gevent, inside Locust: one greenlet each, from its due time to its sample."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse

import gevent
from gevent import GreenletExit

from gates.samples import Sample
from pytest_phase5.load.answer import OK, Ending, refusal
from pytest_phase5.load.locust_driver.wire import Connections, chunks
from pytest_phase5.load.logbook import STOPPED, Logbook
from pytest_phase5.load.ticket import READY_PATH, Seen, Ticket, has_enough, left


@dataclass(slots=True, kw_only=True)
class Flights(Logbook):
    """Sends requests and hands on the samples of the measured ones."""

    targets: Mapping[str, Connections]  #: by base URL
    hand_on: Callable[[Ticket, Sample], None]

    @property
    def protocol(self) -> str:
        """HTTP/1.1 alone."""
        return "h1"

    def keep(self, ticket: Ticket, sample: Sample) -> None:
        """Take the sample of a measured request."""
        self.hand_on(ticket, sample)

    def fly(self, ticket: Ticket, scheduled: float) -> float:
        """Send one request, hand on its sample and return its end."""
        seen = self.take_off()
        try:
            ending = self._ending(ticket, seen)
        except GreenletExit:
            self.land(ticket, scheduled, seen, STOPPED)
            raise
        finally:
            self.ended += 1
        return self.land(ticket, scheduled, seen, ending)

    def _ending(self, ticket: Ticket, seen: Seen) -> Ending:
        bound = gevent.Timeout(self.limit(ticket))
        try:
            with bound:
                return self._exchange(ticket, seen)
        except gevent.Timeout as over:
            if over is not bound:
                raise
            return self.out_of_time(ticket)
        except (OSError, HTTPException) as error:
            return seen.broken(type(error).__name__)

    def _exchange(self, ticket: Ticket, seen: Seen) -> Ending:
        request = ticket.shot.request
        target = self.targets[ticket.base]
        with target.post(request.path, ticket.body, ticket.headers) as response:
            seen.head(response.status, response.headers.get, self.protocol)
            if response.status != OK:
                seen.end = self.clock()
                response.read()
                return self._refused(target, response)
            seen.answer = answer = ticket.answer()
            for data in chunks(response):
                answer.feed(data, self.clock())
                if has_enough(request.leave_after, answer):
                    return left(f"{answer.facts.pieces} tokens")
            return answer.ending()

    def _refused(self, target: Connections, response: HTTPResponse) -> Ending:
        retry_after = "Retry-After" in response.headers
        asks = response.status == 503 and retry_after  # noqa: PLR2004 - Service Unavailable
        ready = asks and _is_ready(target)
        return refusal(response.status, retry_after=retry_after, ready=ready)


def _is_ready(target: Connections) -> bool:
    try:
        return target.get(READY_PATH) == OK
    except (OSError, HTTPException):
        return False  # who cannot be asked is not ready
