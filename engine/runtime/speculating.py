"""Drafts for the rows of a batch, where they pay; who decides is `engine.core.speculation`.

Owned by the thread that owns the model, as the batch is.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.core.lookup import History
from engine.core.speculation import Curve, Plan, Source
from engine.runtime.batch import DecodingBatch
from engine.runtime.sampling import Row

log = logging.getLogger("engine.runtime.speculation")


class Decision(Protocol):
    """`engine.core.speculation.Speculation`, or what a test puts in its place."""

    @property
    def lengths(self) -> Sequence[int]:
        """How long drafts may be, in rising order."""

    @property
    def active(self) -> bool:
        """Whether drafts are made because they pay, as of late."""

    def gain(self, rows: int) -> float:
        """The measured gain in batches of about so many rows."""

    def curve(self, source: Source) -> Curve:
        """What a new stream's drafts are expected to be worth."""

    def attentive(self, rows: int) -> bool:
        """Count a step, and say whether it is worth to look for drafts."""

    def plan(self, rows: int, offers: Mapping[Source, Sequence[Curve]]) -> Plan | None:
        """What to draft in a step of so many rows."""

    def observe_plain(self, rows: int, seconds: float) -> None:
        """A step without drafts took so long."""

    def observe(self, rows: int, plan: Plan, tokens: int, seconds: float) -> bool:
        """A step with drafts brought so many tokens in so long; whether drafts now rest."""

    def observe_draft(self, source: Source, curve: Curve, length: int, accepted: int) -> None:
        """So many tokens of a stream's draft were accepted."""


class Drafter(Protocol):
    """A model that drafts."""

    @property
    def nbytes(self) -> int:
        """Bytes of its caches."""

    def draft(self, row: int, known: Sequence[int], state: Row, length: int) -> list[int]:
        """What may follow the known tokens of a row; nothing while it has not read them all."""

    def keep(self, rows: Sequence[int]) -> None:
        """Drop what belongs to other rows."""


@dataclass(slots=True)
class _Stream:
    """What is known of one row's drafts."""

    curves: dict[Source, Curve]
    history: History = field(default_factory=History)


class Speculator:
    """Takes the steps of a batch, with drafts where they pay.

    Args:
        decision: says when and how much to draft.
        drafter: drafts for rows whose text does not repeat itself.
        clock: seconds that never go back.

    Attributes:
        allowed: whether a step may take longer, so that some rows get more of it.
    """

    def __init__(
        self,
        decision: Decision,
        drafter: Drafter | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.allowed = False
        self._drafted = self._accepted = 0
        self._behind_drafts = False  # the last step verified drafts
        self._drafter = drafter
        self._clock = clock
        self._decision = decision
        self._streams: dict[int, _Stream] = {}  # by row, of those that were looked at

    @property
    def active(self) -> bool:
        """Whether drafts are made because they pay, as of late."""
        return self.allowed and self._decision.active

    @property
    def nbytes(self) -> int:
        """Bytes of the caches of the model that drafts."""
        return self._drafter.nbytes if self._drafter else 0

    def news(self) -> tuple[int, int]:
        """Since the last time: tokens of drafts that were verified, and those that held."""
        news = self._drafted, self._accepted
        self._drafted = self._accepted = 0
        return news

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows are still there."""
        self._streams = {row: self._streams[row] for row in rows if row in self._streams}
        if self._drafter:
            self._drafter.keep(rows)

    def next(self, batch: DecodingBatch, plain: Callable[[], list[Any]]) -> list[Any]:
        """The responses of one step, in order for each row."""
        rows, begun, planned = len(batch), self._clock(), None
        if self._decision.attentive(rows):
            last = batch.last_tokens()  # waits for a step ahead: that time is not the drafts'
            looked = self._clock()
            planned = self._plan(batch, last)
            if planned and any(planned.drafts):
                return self._verify(batch, planned, looked)
        responses = plain()
        # The first step behind drafts finds its tokens ready where steps run ahead, and reading to
        # catch up is no decoding: neither says what a plain step takes.
        if planned is None and not (self._behind_drafts and batch.drawn_ahead):
            self._decision.observe_plain(rows, self._clock() - begun)
        self._behind_drafts = False
        return responses

    def _verify(self, batch: DecodingBatch, planned: "_Planned", begun: float) -> list[Any]:
        rows = len(batch)  # some of them may leave
        responses, accepted = batch.verify(planned.drafts)
        self._learn(planned, accepted)
        self._behind_drafts = True
        seconds = self._clock() - begun
        if self._decision.observe(rows, planned.plan, len(responses), seconds):
            gain = self._decision.gain(rows)
            log.info("drafts rest in batches of %d rows: the gain was %.2f", rows, gain)
        return responses

    def _plan(self, batch: DecodingBatch, last: Sequence[int]) -> "_Planned | None":
        """What to draft behind the last token of each row, if anything."""
        rows = [self._look_up(batch, index, token) for index, token in enumerate(last)]
        plan = self._decision.plan(len(rows), self._offers(rows))
        if plan is None:
            return None
        drafts = [one.found[: plan.length] for one in rows]
        sources = [Source.LOOKUP] * len(rows)
        if plan.source is Source.MODEL and self._drafter:
            for index, one in enumerate(rows):
                length = min(plan.length, one.room)
                if not drafts[index] and length > 0:
                    known = [*batch.tokens[index], last[index]]
                    state = batch.samplers[index]
                    drafts[index] = self._drafter.draft(batch.uids[index], known, state, length)
                    sources[index] = Source.MODEL
        curves = [one.curve(source) for one, source in zip(rows, sources, strict=True)]
        return _Planned(plan, drafts, sources, curves)

    def _look_up(self, batch: DecodingBatch, index: int, last: int) -> "_Row":
        """What may follow in a row according to its own text; `last` is not in its cache yet."""
        stream = self._streams.get(batch.uids[index])
        if stream is None:
            curves = {source: self._decision.curve(source) for source in Source}
            stream = self._streams[batch.uids[index]] = _Stream(curves)
        tokens = batch.tokens[index]
        if len(stream.history) <= len(tokens):
            stream.history.extend([*tokens[len(stream.history) :], last])
        room = batch.room(index)
        longest = min(self._decision.lengths[-1], room)
        return _Row(stream, room, stream.history.draft(longest) if longest > 0 else [])

    def _offers(self, rows: Sequence["_Row"]) -> dict[Source, list[Curve]]:
        """For each source the rows that would have drafts."""
        found = [one.curve(Source.LOOKUP) for one in rows if one.found]
        if self._drafter is None:
            return {Source.LOOKUP: found}
        others = [one.curve(Source.MODEL) for one in rows if not one.found and one.room > 0]
        return {Source.LOOKUP: found, Source.MODEL: [*found, *others] if others else []}

    def _learn(self, planned: "_Planned", accepted: Sequence[int]) -> None:
        for draft, source, curve, count in zip(
            planned.drafts, planned.sources, planned.curves, accepted, strict=True
        ):
            if draft:
                self._drafted += len(draft)
                self._accepted += count
                self._decision.observe_draft(source, curve, len(draft), count)


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of one step: `found` may follow, and there is `room` for so many tokens at most."""

    stream: _Stream
    room: int
    found: list[int]

    def curve(self, source: Source) -> Curve:
        """What a draft of its is expected to be worth."""
        return self.stream.curves[source]


@dataclass(frozen=True, slots=True)
class _Planned:
    """A draft for each row, empty for some, and where they come from."""

    plan: Plan
    drafts: list[list[int]]
    sources: list[Source]
    curves: list[Curve]
