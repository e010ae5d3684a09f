"""The guard's deeds: what the plan asks for, done against engines and the store."""

import asyncio
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any, Final

from gates.acting import who
from gates.delivering import flags_of
from gates.dispatching import WORKFLOW, dispatch_rollback
from gates.engines import EngineClient, EngineError
from gates.guarding.journal import Journal, acknowledged, braked, closed, settled
from gates.guarding.situation import (
    Acknowledge,
    Action,
    Brake,
    Close,
    Deliver,
    Pending,
    Record,
    Renew,
    Settle,
    TakeOver,
)
from gates.history import Record as Entry
from gates.stages import Event, Policy
from gates.standing import Cause, Standing
from gates.store import Snapshot, Store, StoreError, insist
from gates.transitions import moved

log = logging.getLogger("phase5.guard")

#: Seconds that one engine is asked to brake within one poll: what a manual rollback gives it, too.
#: An engine that is still silent then is asked again at the next poll.
BRAKE_SECONDS: Final = 10.0

#: Seconds for one delivery or renewal; the next poll brings another.
QUIET_SECONDS: Final = 4.0

#: What is asked of engines at once, in the order of the plan.
_URGENT: Final = (TakeOver, Settle, Brake, Acknowledge, Record)


def urgent(actions: Iterable[Action]) -> list[Action]:
    """Those after which the situation is another one."""
    return [action for action in actions if isinstance(action, _URGENT)]


@dataclass(slots=True, kw_only=True)
class Deeds:
    """Does what a plan asks for. Every deed may be done twice, or be cut off at any point."""

    policy: Policy
    store: Store
    journal: Journal
    marks: dict[str, float] = field(default_factory=dict)
    """When what happened first, on the steady clock: for a drill, which reads and clears them."""

    _asked: set[str] = field(default_factory=set)  #: rollbacks that CI was asked to write

    def mark(self, what: str) -> None:
        """Something happened now."""
        self.marks.setdefault(what, monotonic())

    async def brake(
        self, actions: Sequence[Brake], engines: Mapping[str, EngineClient]
    ) -> dict[str, str]:
        """Tell all engines at once; the reason for each that did not confirm."""
        told = await asyncio.gather(*(self._brake(each, engines[each.url]) for each in actions))
        return {each.url: why for each, why in zip(actions, told, strict=True) if why}

    async def _brake(self, action: Brake, engine: EngineClient) -> str:
        try:
            answer = await engine.persistently(
                lambda one: one.rollback(
                    action.flags, cause=action.cause.value, reason=action.reason
                ),
                BRAKE_SECONDS,
            )
        except EngineError as error:
            return str(error)
        self.journal.write(braked(action.pending, answer.brakes.values()))
        late = [f for f in action.flags if f not in answer.flags or not answer.flags[f].off]
        if not late:
            self.mark(f"braked:{action.url}")
        return f"{action.url}: still serves {', '.join(late)}" if late else ""

    def remember(self, action: Settle | Acknowledge | Close) -> None:
        """Write down what needs no engine."""
        if isinstance(action, Settle):
            self.journal.write(settled(action.brakes))
        elif isinstance(action, Acknowledge):
            self.journal.write(acknowledged(action.pending, action.epochs))
        else:
            self.journal.write(closed(action.pending))

    def record(self, action: Record, now: datetime) -> Snapshot:
        """Write a rollback into the store, over whatever others wrote meanwhile.

        Raises:
            StoreError: it cannot be written now.
        """
        each = self.journal.memory.find(action.pending)

        def decide(snapshot: Snapshot) -> tuple[Mapping[str, Standing], Entry]:
            after: dict[str, Standing] = {}
            for flag in action.flags:
                after |= moved(
                    self.policy,
                    snapshot.flags,
                    (flag,),
                    Event.ROLLBACK,
                    now=now,
                    cause=each.cause,
                    candidate=each.candidates.get(flag, ""),
                    reason=each.reason,
                    brakes={flag: each.brakes},
                )
            return after, self._entry(each, now)

        try:
            snapshot = insist(self.store, decide)
        except StoreError as error:
            raise StoreError(f"{error}{self._dispatched(each)}") from error
        epochs = {flag: snapshot.flags[flag].epoch for flag in action.flags}
        self.journal.write(acknowledged(each.id, epochs))
        return snapshot

    def _dispatched(self, each: Pending) -> str:
        """Ask CI to write it, once: it may push where a guard may not."""
        if each.id in self._asked:
            return ""
        told = dispatch_rollback(self.store.where, each.flags, each.reason)
        if told.startswith(WORKFLOW):
            self._asked.add(each.id)
        return f"; {told}" if told else ""

    def _entry(self, each: Pending, now: datetime) -> Entry:
        candidates = {each.candidates.get(flag, "") for flag in each.flags}
        return Entry(
            event=Event.ROLLBACK.value,
            reason=each.reason,
            who=f"guard {who()}",
            at=now,
            verdict=each.verdict,
            cause=each.cause.value,
            candidate=candidates.pop() if len(candidates) == 1 else "",
        )


async def deliver(
    actions: Sequence[Deliver], engines: Mapping[str, EngineClient], snapshot: Snapshot
) -> dict[str, str]:
    """Bring engines to a snapshot; the reason for each that did not take it."""
    body = flags_of(snapshot.config)

    async def one(action: Deliver) -> str:
        try:
            answer = await engines[action.url].persistently(
                lambda each: each.deliver(snapshot.generation, body), QUIET_SECONDS
            )
        except EngineError as error:
            return str(error)
        return "" if answer.taken else f"{action.url}: refused the state: {answer.reason}"

    told = await asyncio.gather(*map(one, actions))
    return {each.url: why for each, why in zip(actions, told, strict=True) if why}


async def renew(actions: Sequence[Renew], engines: Mapping[str, EngineClient]) -> dict[str, str]:
    """Extend leases; the reason for each that was not."""

    async def one(action: Renew) -> str:
        try:
            await engines[action.url].persistently(
                lambda each: each.renew(action.seconds), QUIET_SECONDS
            )
        except EngineError as error:
            return str(error)
        return ""

    told = await asyncio.gather(*map(one, actions))
    return {each.url: why for each, why in zip(actions, told, strict=True) if why}


def rollback(
    flags: Mapping[str, int], cause: Cause, reason: str, now: datetime, **more: Any
) -> Pending:
    """A rollback that begins now."""
    return Pending(
        id=uuid.uuid4().hex,
        cause=cause,
        reason=reason,
        at=now.isoformat(),
        flags=dict(flags),
        **more,
    )
