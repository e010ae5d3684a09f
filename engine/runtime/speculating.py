"""Drafts for the rows of a batch, where they pay; who decides is `engine.core.speculation`.

Owned by the thread that owns the model, as the batch is.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.core.lookup import History
from engine.core.speculation import Curve, Plan, Source, Speculation
from engine.runtime.batch import DecodingBatch
from engine.runtime.sampling import Row

log = logging.getLogger("engine.runtime.speculation")


class Drafter(Protocol):
    """A model that drafts."""

    nbytes: int  #: of its caches

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
        longest: tokens of a draft, at most.
        drafter: drafts for rows whose text does not repeat itself.
        clock: seconds that never go back.

    Attributes:
        allowed: whether a step may take longer, so that some rows get more of it.
        drafted, accepted: tokens of drafts so far, and those of them that were right.
    """

    def __init__(
        self,
        longest: int,
        drafter: Drafter | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.allowed = False
        self.drafted = 0
        self.accepted = 0
        self._drafter = drafter
        self._clock = clock
        self._decision = Speculation(longest)
        self._streams: dict[int, _Stream] = {}  # by row, of those that were looked at

    @property
    def active(self) -> bool:
        """Whether drafts are made because they pay, as of late."""
        return self._decision.active

    @property
    def nbytes(self) -> int:
        """Bytes of the caches of the model that drafts."""
        return self._drafter.nbytes if self._drafter else 0

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows are still there."""
        self._streams = {row: self._streams[row] for row in rows if row in self._streams}
        if self._drafter:
            self._drafter.keep(rows)

    def next(self, batch: DecodingBatch, plain: Callable[[], list[Any]]) -> list[Any]:
        """The responses of one step, in order for each row."""
        began, rows = self._clock(), len(batch)
        planned = self._plan(batch) if self._decision.attentive(rows) else None
        if planned is None or not any(planned.drafts):
            began = self._clock()
            responses = plain()
            self._decision.observe_plain(rows, self._clock() - began)
            return responses
        responses, accepted = batch.verify(planned.drafts)
        self._learn(planned, accepted)
        seconds = self._clock() - began
        if self._decision.observe(rows, planned.plan, len(responses), seconds):
            gain = self._decision.gain(rows)
            log.info("drafts rest in batches of %d rows: the gain was %.2f", rows, gain)
        return responses

    def _plan(self, batch: DecodingBatch) -> "_Planned | None":
        """What to draft for each row, if anything."""
        last = batch.last_tokens()
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
                self.drafted += len(draft)
                self.accepted += count
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
