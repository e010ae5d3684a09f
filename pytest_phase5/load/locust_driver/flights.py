"""Requests on gevent, inside Locust: one greenlet each, from its due time to its sample."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from math import inf

import gevent
from gevent import GreenletExit

from gates.samples import Outcome, Sample
from pytest_phase5.load.answer import OK, Ending, refusal
from pytest_phase5.load.locust_driver.wire import Connections, chunks
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
    """Sends requests and hands on the samples of the measured ones."""

    targets: Mapping[str, Connections]  #: by base URL
    clock: Callable[[], float]  #: seconds from the start of the run
    timeout: float
    land: Callable[[Ticket, Sample], None]
    sent: int = 0  #: this and the next three count the warm-up too
    ended: int = 0
    errors: int = 0
    dropped: int = 0

    @property
    def in_flight(self) -> int:
        """Requests that were sent and have not ended."""
        return self.sent - self.ended

    def fly(self, ticket: Ticket, scheduled: float) -> float:
        """Send one request, hand on its sample and return its end."""
        seen = Seen(sent=self.clock())
        self.sent += 1
        try:
            ending = self._ending(ticket, seen)
        except GreenletExit:
            ending = Ending(Outcome.CANCELLED, "run stopped")
            self._land(ticket, scheduled, seen, ending)
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

    def _ending(self, ticket: Ticket, seen: Seen) -> Ending:
        leave = ticket.shot.request.leave_after
        patience = leave.seconds if leave and leave.seconds is not None else inf
        bound = gevent.Timeout(min(self.timeout, patience))
        try:
            with bound:
                return self._exchange(ticket, seen)
        except gevent.Timeout as over:
            if over is not bound:
                raise
            return left(f"{patience:g} s") if patience < self.timeout else _timeout()
        except (OSError, HTTPException) as error:
            return seen.broken(type(error).__name__)

    def _exchange(self, ticket: Ticket, seen: Seen) -> Ending:
        request = ticket.shot.request
        target = self.targets[ticket.base]
        with target.post(request.path, ticket.body, ticket.headers) as response:
            seen.head(response.status, response.headers.get, "h1")
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

    def _land(self, ticket: Ticket, scheduled: float, seen: Seen, ending: Ending) -> float:
        end = self.clock() if seen.end is None else seen.end
        self._record(ticket, scheduled, seen, ending, end)
        return end

    def _record(
        self, ticket: Ticket, scheduled: float, seen: Seen, ending: Ending, end: float | None
    ) -> None:
        seen.protocol = seen.protocol or "h1"
        sample = sample_of(ticket, scheduled, seen, ending, end)
        if sample is not None:
            self.land(ticket, sample)


def _timeout() -> Ending:
    return Ending(Outcome.FAILED, "timeout")


def _is_ready(target: Connections) -> bool:
    try:
        return target.get(READY_PATH) == OK
    except (OSError, HTTPException):
        return False  # who cannot be asked is not ready
