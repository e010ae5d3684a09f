"""One stream's life: a place, tokens, text, and one end.

Everything that happens to a stream is posted into its mailbox, by the runtime, the queue,
the client's connection or the engine's stop, and one consumer takes it out in order. So a
stream has no races of its own, and no callback does more than append.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from engine.core.flags import FlagSet
from engine.core.valve import Valve
from engine.runtime.messages import Prefill, Submit, Token, Warm
from engine.server.detokenizers import Detokenizer
from engine.server.errors import ApiError
from engine.server.pieces import Piece, PieceWriter
from engine.server.requests import Job
from engine.server.responses import Usage


class Observer(Protocol):
    """Hears of a stream's tokens. Must not raise."""

    def prefilled(self, prefill: Prefill, cached: int) -> None:
        """A chunk of its prompt was read; `cached` tokens of it were kept and not read."""

    def first_text(self, stream: "Stream", now: float) -> None:
        """The first text is there, or the end of a stream without any."""

    def tokens(self, stream: "Stream", now: float, count: int) -> None:
        """`count` more output tokens went out as text or end."""

    def token_gap(self, stream: "Stream", seconds: float) -> None:
        """The time between two tokens as they came from the runtime."""

    def pause(self, stream: "Stream") -> None:
        """As much waits for the client as may: the runtime must stand still."""

    def resume(self, stream: "Stream") -> None:
        """The client took enough of it: the runtime may go on."""


class ClientGone(Exception):  # noqa: N818 - not an error of ours
    """The client closed its connection, or was given up on."""

    reason = "client_gone"


class Gone:
    """Mail: the client is gone."""


GONE: Final = Gone()
Mail = Token | ApiError | Gone


@dataclass(slots=True)
class Times:
    """When what happened, in seconds of the engine's clock; None while it has not."""

    arrived: float
    tokenised: float | None = None
    submitted: float | None = None
    looked_up: float | None = None
    prefilled: float | None = None
    first_text: float | None = None
    last_token: float | None = None

    def header(self) -> str:
        """`Server-Timing`: what is known, in milliseconds."""
        return ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in self.spans())

    def spans(self) -> list[tuple[str, float]]:
        """What is known, in seconds. The stages add up to the last, `first_token`."""
        spans = (
            ("tokenise", self.arrived, self.tokenised),
            ("queue", self.tokenised, self.submitted),
            ("lookup", self.submitted, self.looked_up),
            ("prefill", self.looked_up, self.prefilled),
            ("decode", self.prefilled, self.first_text),
            ("first_token", self.arrived, self.first_text),
        )
        return [
            (name, end - begin)
            for name, begin, end in spans
            if begin is not None and end is not None
        ]


class Stream:
    """A stream from its place in the queue to its end. Implements `StreamListener`."""

    def __init__(
        self,
        *,
        uid: int,
        job: Job,
        flags: FlagSet,
        times: Times,
        detokenizer: Detokenizer,
        clock: Callable[[], float],
        observer: Observer,
        valve: Valve | None = None,
    ) -> None:
        """Nothing but `max_tokens` bounds what waits without a `valve`: for whole answers."""
        self.uid = uid
        self.job = job
        self.flags = flags
        self.times = times
        self.finish_reason: str | None = None
        self.output_tokens = 0
        self.cached_tokens = 0
        self.gone = False  # whether its client is known to be gone
        self.announced = False  #: the runtime was told of it while it waited
        self.plain = False  #: it was assigned the pipeline, which has been taken away since
        self._writer = PieceWriter(detokenizer, job.stops, job.min_tokens)
        self._clock = clock
        self._observer = observer
        self._valve = valve
        self._counted = 0
        self._mail: list[Mail] = []
        self._waiting: asyncio.Future[None] | None = None  #: the consumer, for mail
        self._given = 0  #: tokens that the consumer has and may not have delivered yet
        self._end: Exception | None = None  #: what ends the stream behind its last text

    @property
    def paused(self) -> bool:
        """Whether it stands still until its client takes something."""
        return self._valve is not None and self._valve.closed

    def submission(self, *, pipeline: bool) -> Submit:
        """What the runtime is asked."""
        job, pipeline = self.job, pipeline and not self.plain
        return Submit(
            uid=self.uid,
            prompt=job.prompt,
            max_tokens=job.max_tokens,
            seed=job.seed,
            sampling=job.sampling,
            min_tokens=job.min_tokens,
            ignore_eos=job.ignore_eos,
            reuse_prefix=pipeline,
            logprobs=job.logprobs,
            checkpoints=list(job.checkpoints) if pipeline else [],
            speculate=pipeline,
        )

    def announcement(self, seconds: float) -> Warm:
        """What the runtime is told while the stream waits."""
        job, self.announced = self.job, True
        return Warm(
            uid=self.uid, prompt=job.prompt, checkpoints=list(job.checkpoints), seconds=seconds
        )

    def usage(self) -> Usage:
        """Token counts so far."""
        return Usage(len(self.job.prompt), self.output_tokens, self.cached_tokens)

    def on_prefill(self, prefill: Prefill) -> None:
        """Note when the prompt was done, and how much of it was not computed again."""
        self._observer.prefilled(prefill, max(0, prefill.cached - self.cached_tokens))
        self.cached_tokens = prefill.cached
        if self.times.looked_up is None and self.times.submitted is not None:
            self.times.looked_up = min(self.times.submitted + prefill.waited, self._clock())
        if prefill.done >= prefill.total:
            self.times.prefilled = self._clock()

    def on_token(self, token: Token) -> None:
        """Take the next token."""
        now = self._clock()
        if self.times.last_token is not None:
            self._observer.token_gap(self, now - self.times.last_token)
        self.times.last_token = now
        self.post(token)
        if self._valve is not None and self._valve.put():
            self._observer.pause(self)

    def on_fault(self, reason: str) -> None:
        """Take the runtime's word that the stream is lost."""
        self.post(ApiError(status=500, message=reason, code="stream_failed"))

    def post(self, mail: Mail) -> None:
        """Put something into the mailbox."""
        self.gone = self.gone or mail is GONE
        self._mail.append(mail)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def pieces(self) -> list[Piece]:
        """The next text, as it becomes certain: all that is there at once.

        Empty only where the stream ends without another. Who asks for more has delivered
        what it was given: until then it counts as waiting.

        Raises:
            ApiError: the stream failed; text before the failure was given out.
            ClientGone: nobody listens any more.
        """
        pieces: list[Piece] = []
        while not pieces and self.finish_reason is None:
            self._delivered()
            if self._end is not None:
                raise self._end
            pieces = self._read(await self._take())
            if pieces or self.finish_reason is not None:
                self._count()
        return pieces

    # Once for every token: an `asyncio.Event` would do more and be waited for through more calls.
    async def _take(self) -> list[Mail]:
        if not self._mail:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        mail, self._mail = self._mail, []
        return mail

    def _delivered(self) -> None:
        given, self._given = self._given, 0
        if self._valve is not None and given and self._valve.take(given):
            self._observer.resume(self)

    def _read(self, mails: list[Mail]) -> list[Piece]:
        pieces: list[Piece] = []
        for mail in mails:
            if not isinstance(mail, Token):
                self._end = mail if isinstance(mail, ApiError) else ClientGone()
                break
            self._given += 1
            self.output_tokens += 1
            piece = self._writer.push(mail)
            if piece.text or piece.tokens:
                pieces.append(piece)
            self.finish_reason = self._writer.finish_reason
            if self.finish_reason is not None:
                break
        return pieces

    def _count(self) -> None:
        """Tell of the tokens since the last time; the first time is the time to first token."""
        now = self._clock()
        if self.times.first_text is None:
            self.times.first_text = now
            self._observer.first_text(self, now)
        self._observer.tokens(self, now, self.output_tokens - self._counted)
        self._counted = self.output_tokens
