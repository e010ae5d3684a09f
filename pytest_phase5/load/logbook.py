"""What every driver keeps of its requests: how many, and the samples of the measured ones."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from gates.samples import Outcome, Sample
from pytest_phase5.load.answer import Ending
from pytest_phase5.load.progress import Progress
from pytest_phase5.load.ticket import ERRORS, Seen, Ticket, left, sample_of


@dataclass(slots=True, kw_only=True)
class Logbook(ABC):
    """Counts requests and makes their samples; how they are sent is for the driver."""

    clock: Callable[[], float]  #: seconds from the start of the run
    timeout: float
    sent: int = 0  #: this and the next three count the warm-up too
    ended: int = 0
    errors: int = 0
    dropped: int = 0

    @property
    def in_flight(self) -> int:
        """Requests that were sent and have not ended."""
        return self.sent - self.ended

    @property
    @abstractmethod
    def protocol(self) -> str:
        """What the driver speaks, for a request that never saw an answer."""

    @abstractmethod
    def keep(self, ticket: Ticket, sample: Sample) -> None:
        """Take the sample of a measured request."""

    def take_off(self) -> Seen:
        """A request is sent now."""
        self.sent += 1
        return Seen(sent=self.clock())

    def progress(self, planned: int) -> Progress:
        """How far the requests are, of so many."""
        return Progress(
            at=self.clock(),
            planned=planned,
            sent=self.sent,
            ended=self.ended,
            errors=self.errors,
            dropped=self.dropped,
        )

    def land(self, ticket: Ticket, scheduled: float, seen: Seen, ending: Ending) -> float:
        """Record a request that is over, and return its end."""
        self.errors += ending.outcome in ERRORS
        end = self.clock() if seen.end is None else seen.end
        self._record(ticket, scheduled, seen, ending, end)
        return end

    def drop(self, ticket: Ticket, scheduled: float) -> None:
        """Record a request that there was no room for."""
        self.dropped += 1
        ending = Ending(Outcome.DROPPED, "too many in flight")
        self._record(ticket, scheduled, Seen(sent=scheduled), ending, None)

    def limit(self, ticket: Ticket) -> float:
        """Seconds that a request may take: its client may leave before the timeout."""
        return min(self.timeout, _patience(ticket))

    def out_of_time(self, ticket: Ticket) -> Ending:
        """How a request counts that took longer: its client left, or it failed."""
        patience = _patience(ticket)
        if patience < self.timeout:
            return left(f"{patience:g} s")
        return Ending(Outcome.FAILED, "timeout")

    def _record(
        self, ticket: Ticket, scheduled: float, seen: Seen, ending: Ending, end: float | None
    ) -> None:
        seen.protocol = seen.protocol or self.protocol
        sample = sample_of(ticket, scheduled, seen, ending, end)
        if sample is not None:
            self.keep(ticket, sample)


#: How a request counts that was under way when the run was stopped.
STOPPED = Ending(Outcome.CANCELLED, "run stopped")


def _patience(ticket: Ticket) -> float:
    leave = ticket.shot.request.leave_after
    return leave.seconds if leave and leave.seconds is not None else inf
