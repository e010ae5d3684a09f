"""One request on its way, without the way: what every driver sends and what it makes of it.

Nothing here sends or waits, so that drivers on asyncio and on gevent count alike.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from gates.samples import Outcome, Sample
from pytest_phase5.load.answer import Answer, BodyAnswer, Ending, Facts, StreamAnswer
from pytest_phase5.load.plan import LeaveAfter, Plan, Shot

KEY_HEADER: Final = "X-Phase5-Key"
FLAGS_HEADER: Final = "X-Phase5-Flags"
REQUEST_ID_HEADER: Final = "X-Request-Id"
READY_PATH: Final = "/readyz"
#: Seconds that an idle connection is kept: less than the 5 s of the least patient servers, so
#: that a request never meets a connection that its server is just closing.
KEEP_ALIVE: Final = 2.0
ERRORS: Final = frozenset({Outcome.FAILED, Outcome.CUT})


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

    @property
    def headers(self) -> dict[str, str]:
        """What is sent beside the body."""
        return {"Content-Type": "application/json", KEY_HEADER: self.shot.request.key}

    def answer(self) -> Answer:
        """A reader for the body of its 200."""
        return StreamAnswer() if self.stream else BodyAnswer()


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

    def head(self, status: int, header: Callable[[str], str | None], protocol: str) -> None:
        """Take what came before the body; `header` gives one by its name, in any case."""
        self.status, self.protocol = status, protocol
        self.flags = header(FLAGS_HEADER)
        self.request_id = header(REQUEST_ID_HEADER)

    def broken(self, reason: str) -> Ending:
        """How it counts when the connection breaks: whole, failed by its own word, or cut."""
        if self.answer is None:
            return Ending(Outcome.FAILED, reason)
        ending = self.answer.ending()
        return Ending(Outcome.CUT, reason) if ending.outcome is Outcome.CUT else ending


def left(after: str) -> Ending:
    """How a request counts whose client left on purpose."""
    return Ending(Outcome.CANCELLED, f"left after {after}")


def has_enough(leave: LeaveAfter | None, answer: Answer) -> bool:
    """Whether the client leaves now. One who meets the end has stayed."""
    if leave is None or leave.tokens is None or answer.has_ended:
        return False
    return answer.facts.pieces >= leave.tokens and answer.ending().outcome is Outcome.CUT


def sample_of(
    ticket: Ticket, scheduled: float, seen: Seen, ending: Ending, end: float | None
) -> Sample | None:
    """The row of a request that is over; None in warm-up.

    A dropped one was never sent, whatever `seen` says.
    """
    shot = ticket.shot
    if shot.index is None or shot.block is None:
        return None
    facts = seen.answer.facts if seen.answer else Facts()
    dropped = ending.outcome is Outcome.DROPPED
    return Sample(
        index=shot.index,
        arm=shot.arm,
        block=shot.block,
        scheduled=scheduled,
        sent=None if dropped else seen.sent,
        first_token=facts.first_token,
        longest_gap=facts.longest_gap,
        end=end,
        outcome=ending.outcome,
        status=seen.status,
        finish_reason=facts.finish_reason,
        prompt_tokens=facts.prompt_tokens,
        output_tokens=facts.output_tokens,
        cached_tokens=facts.cached_tokens,
        flags=seen.flags,
        protocol=None if dropped else seen.protocol,
        request_id=seen.request_id or facts.request_id,
        error=ending.error,
        kind=shot.request.kind,
    )
