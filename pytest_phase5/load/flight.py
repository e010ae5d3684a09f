"""One request, from its scheduled time to its sample."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf

from gates.samples import Outcome, Sample
from pytest_phase5.load.answer import OK, Answer, BodyAnswer, Ending, Facts, StreamAnswer, refusal
from pytest_phase5.load.client import Client, Response, TransportError
from pytest_phase5.load.plan import LeaveAfter, Plan, Shot

KEY_HEADER = "X-Phase5-Key"
FLAGS_HEADER = "X-Phase5-Flags"
REQUEST_ID_HEADER = "X-Request-Id"
READY_PATH = "/readyz"
ERRORS = frozenset({Outcome.FAILED, Outcome.CUT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A shot made ready to send, so that nothing is encoded while time counts."""

    shot: Shot
    base: str
    body: bytes
    stream: bool

    @classmethod
    def of(cls, plan: Plan, shot: Shot, models: Mapping[str, str]) -> "Ticket":
        """The ticket of a shot; `models` are those that the arms serve, where one was asked."""
        served = {"model": models[shot.arm]} if shot.arm in models else {}
        return cls(
            shot=shot,
            base=plan.targets[shot.arm].rstrip("/"),
            body=json.dumps({**served, **shot.request.body}).encode(),
            stream=bool(shot.request.body.get("stream")),
        )


@dataclass(slots=True, kw_only=True)
class Seen:
    """What is known of a request under way."""

    sent: float
    status: int | None = None
    flags: str | None = None
    protocol: str | None = None
    request_id: str | None = None
    end: float | None = None  #: only where the request went on after its answer ended
    answer: Answer | None = None

    def broken(self, reason: str) -> Ending:
        """How it counts when the connection breaks: whole, failed by its own word, or cut."""
        if self.answer is None:
            return Ending(Outcome.FAILED, reason)
        ending = self.answer.ending()
        return Ending(Outcome.CUT, reason) if ending.outcome is Outcome.CUT else ending


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
        headers = {"Content-Type": "application/json", KEY_HEADER: request.key}
        async with self.client.post(ticket.base + request.path, ticket.body, headers) as response:
            seen.status = response.status
            seen.protocol = response.protocol
            seen.flags = response.headers.get(FLAGS_HEADER)
            seen.request_id = response.headers.get(REQUEST_ID_HEADER)
            if response.status != OK:
                seen.end = self.clock()
                return await self._refused(ticket, response)
            seen.answer = StreamAnswer() if ticket.stream else BodyAnswer()
            async for data in response.chunks():
                seen.answer.feed(data, self.clock())
                if _has_enough(request.leave_after, seen.answer):
                    return left(f"{seen.answer.facts.pieces} tokens")
            return seen.answer.ending()

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
        shot = ticket.shot
        if shot.index is None or shot.block is None:
            return  # warm-up
        facts = seen.answer.facts if seen.answer else Facts()
        dropped = ending.outcome is Outcome.DROPPED
        self.samples.append(
            Sample(
                index=shot.index,
                arm=shot.arm,
                block=shot.block,
                scheduled=scheduled,
                sent=None if dropped else seen.sent,
                first_token=facts.first_token,
                end=end,
                outcome=ending.outcome,
                status=seen.status,
                finish_reason=facts.finish_reason,
                prompt_tokens=facts.prompt_tokens,
                output_tokens=facts.output_tokens,
                flags=seen.flags,
                protocol=None if dropped else seen.protocol or self.client.protocol,
                request_id=seen.request_id or facts.request_id,
                error=ending.error,
                kind=shot.request.kind,
            )
        )


def left(after: str) -> Ending:
    """How a request counts whose client left on purpose."""
    return Ending(Outcome.CANCELLED, f"left after {after}")


def _has_enough(leave: LeaveAfter | None, answer: Answer) -> bool:
    """Whether the client leaves now. One who meets the end has stayed."""
    if leave is None or leave.tokens is None or answer.has_ended:
        return False
    return answer.facts.pieces >= leave.tokens and answer.ending().outcome is Outcome.CUT
