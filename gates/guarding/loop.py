"""The guard's loop: one poll after another, each complete in itself.

A poll reads store, engines and evidence at once, judges, and does what the plan asks for. What
is slow (a remote that does not answer, a Prometheus that does not) delays only itself: brakes wait
for nothing but the engines.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any, Final

from gates.engine_views import EngineView
from gates.engines import EngineClient, ask_each
from gates.guarding.acting import Deeds, deliver, renew, rollback, urgent
from gates.guarding.evidence import Minutes
from gates.guarding.folder import HEARTBEAT_FILE, replace_json
from gates.guarding.journal import opened
from gates.guarding.judging import candidate_of, disagreements, judged, justified
from gates.guarding.ledgers import Ledgers
from gates.guarding.metrics import GuardMetrics
from gates.guarding.noticing import Noticed
from gates.guarding.plan import plan
from gates.guarding.reading import Reading
from gates.guarding.sight import Sentence
from gates.guarding.situation import (
    Acknowledge,
    Action,
    Brake,
    Close,
    Deliver,
    Pending,
    Polled,
    Record,
    Renew,
    Settle,
    Situation,
    TakeOver,
)
from gates.ledger import Row
from gates.store import StoreError

log = logging.getLogger("phase5.guard")

#: Seconds for the engines' statuses; one that takes longer counts as silent in this poll.
STATUS_SECONDS: Final = 3.0

#: Seconds that a poll waits for evidence, and for the store, before it goes on without.
EVIDENCE_SECONDS: Final = 20.0

#: A situation is planned anew after each round of deeds; more rounds than this bring nothing.
_ROUNDS: Final = 4


@dataclass(slots=True, kw_only=True)
class Guard:
    """Owns what one guard knows between two polls."""

    folder: Path
    reading: Reading
    evidence: Minutes
    ledgers: Ledgers
    deeds: Deeds
    metrics: GuardMetrics
    leases: Mapping[str, float]
    once: bool = False  #: one look, which promises nothing about the time after it
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    sooner: timedelta = timedelta(0)  #: by how much minutes close sooner than they are made to
    complaints: dict[str, str] = field(default_factory=dict)
    noticed: Noticed = field(default_factory=Noticed)
    opened: int = 0  #: rollbacks that were begun or taken over
    _engines: dict[str, EngineClient] = field(default_factory=dict)
    _extending: "asyncio.Task[dict[str, tuple[Row, ...]]] | None" = None
    _begun: dict[str, float] = field(default_factory=dict)  #: rollbacks, on a steady clock

    async def poll(self, engines: tuple[EngineClient, ...]) -> tuple[Situation, tuple[Action, ...]]:
        """Look once at everything, and do what is to be done."""
        self._engines = {engine.url: engine for engine in engines}
        await self.reading.refresh()
        polled = await self._statuses(engines)
        self.noticed.note(polled, self.clock())
        if self._behind(polled):  # somebody wrote between the two looks
            await self.reading.refresh()
        await self._extend()
        await self._judge(polled)
        situation, actions = await self._act(polled)
        now = self.clock()
        self.metrics.polled(situation, actions, now)
        await asyncio.to_thread(self._beat, situation, actions, now)
        return situation, actions

    def situation(self, polled: tuple[Polled, ...]) -> Situation:
        """All that is known now."""
        memory = self.deeds.journal.memory
        trouble = [*self.reading.trouble]
        if self.deeds.journal.damage:
            trouble.append(self.deeds.journal.damage)
        situation = Situation(
            engines=polled,
            store=self.reading.view,
            trouble=tuple(trouble),
            pending=memory.pending,
            settled=memory.settled,
            recent=frozenset() if self.once else self.noticed.recent(self.clock()),
            leases=self.leases,
            complaints=self.complaints,
        )
        return replace(situation, sights=self.ledgers.sights(situation.live))

    def _behind(self, polled: tuple[Polled, ...]) -> bool:
        known = self.reading.view.generation if self.reading.view else 0
        return any(each.view.generation > known for each in polled if each.view is not None)

    async def _statuses(self, engines: tuple[EngineClient, ...]) -> tuple[Polled, ...]:
        answers = await ask_each(engines, lambda one: one.status(), seconds=STATUS_SECONDS)
        return tuple(
            Polled(url=url, view=answer)
            if isinstance(answer, EngineView)
            else Polled(url=url, error=answer.reason)
            for url, answer in answers.items()
        )

    async def _extend(self) -> None:
        """Bring the ledgers up to date, in a thread; one that is slow goes on by itself."""
        now = self.clock() + self.sooner
        if self._extending is None:
            live = self.situation(()).live
            self._extending = asyncio.create_task(asyncio.to_thread(self._read_minutes, live, now))
        done, _ = await asyncio.wait({self._extending}, timeout=EVIDENCE_SECONDS)
        if not done:
            self.complaints["evidence"] = f"no evidence within {EVIDENCE_SECONDS:g} s"
            return
        task, self._extending = self._extending, None
        self.complaints = {}
        error = task.exception()
        if isinstance(error, ValueError | OSError):
            self.complaints["evidence"] = str(error)
        elif error is not None:
            raise error
        else:
            self.metrics.extended(task.result())

    def _read_minutes(self, live: Mapping[str, Any], now: datetime) -> dict[str, tuple[Row, ...]]:
        self.ledgers.follow(
            live, lambda flag, standing: self.evidence.header(flag, standing, now), now
        )
        return self.ledgers.extend(self.evidence.rows, now)

    async def _judge(self, polled: tuple[Polled, ...]) -> None:
        """Convict on what the ledgers say; while they are being written nobody is."""
        if self._extending is not None:
            return
        now = self.clock()
        found = await asyncio.to_thread(judged, self.ledgers.policy, self.ledgers, now)
        self.complaints |= found.complaints
        self.metrics.standings.judged(found.shown, found.soaks)
        leaving = {flag for each in self.deeds.journal.memory.pending for flag in each.flags}
        view = self.reading.view
        convicted = [s for s in found.sentences if s.flag not in leaving]
        if convicted and view is not None:
            self.deeds.mark("convicted")
            await self._convict(convicted, polled, now)

    async def _convict(
        self, convicted: list[Sentence], polled: tuple[Polled, ...], now: datetime
    ) -> None:
        """Write the verdict, then the intent; the plan does the rest."""
        views = [each.view for each in polled if each.view is not None]
        sha256 = ""
        try:
            proof = await asyncio.to_thread(
                justified, self.folder, self.ledgers.policy, self.ledgers, views, now
            )
            sha256 = proof.sha256
            log.warning("verdict %s in %s", sha256, proof.path)
            for flag in disagreements(proof, (s.flag for s in convicted)):
                self.complaints[f"files:{flag}"] = f"the files do not convict {flag}; memory does"
        except (OSError, ValueError) as error:  # a full disk must not keep a guilty flag on
            self.complaints["verdict"] = f"the verdict cannot be written: {error}"
        for cause in dict.fromkeys(sentence.cause for sentence in convicted):
            ours = [s for s in convicted if s.cause is cause]
            epochs = {s.flag: self.ledgers.watched[s.flag].header.epoch for s in ours}
            reason = "; ".join(dict.fromkeys(s.reason for s in ours))
            self.begin(rollback(epochs, cause, reason, now, verdict=sha256), views)

    def begin(self, each: Pending, views: Sequence[EngineView]) -> None:
        """Write a rollback down; the plan does the rest, at this poll and the next."""
        candidates = {flag: candidate_of(self.ledgers, flag, views) for flag in each.flags}
        each = replace(each, candidates=candidates)
        self.deeds.journal.write(opened(each))
        self.deeds.mark("opened")
        self._begun[each.id] = monotonic()
        self.opened += 1
        for flag in each.flags:
            self.metrics.rollbacks.labels(flag, each.cause.value).inc()
        log.error("rollback of %s (%s): %s", ", ".join(each.flags), each.cause.value, each.reason)

    async def _act(self, polled: tuple[Polled, ...]) -> tuple[Situation, tuple[Action, ...]]:
        failed: set[str] = set()
        for _ in range(_ROUNDS):
            situation = self.situation(polled)
            actions = plan(situation, self.clock())
            todo = [a for a in urgent(actions) if _key(a) not in failed]
            if not todo:
                break
            views = [view for _, view in situation.views]
            failed |= await self._urgently(todo, views)
            if any(isinstance(action, Brake) for action in todo):
                polled = await self._statuses(tuple(self._engines.values()))
        await self._quietly(actions)
        return situation, actions

    async def _urgently(self, actions: list[Action], views: Sequence[EngineView]) -> set[str]:
        """Brakes first and all at once; the keys of what did not work, for this poll."""
        failed = set()
        brakes = [action for action in actions if isinstance(action, Brake)]
        for url, why in (await self.deeds.brake(brakes, self._engines)).items():
            log.error("brake: %s", why)
            failed |= {_key(action) for action in brakes if action.url == url}
        for action in actions:
            if isinstance(action, TakeOver):
                self.begin(self._taken_over(action), views)
            elif isinstance(action, Settle | Acknowledge):
                self.deeds.remember(action)
            elif isinstance(action, Record) and not await self._record(action):
                failed.add(_key(action))
        return failed

    def _taken_over(self, action: TakeOver) -> Pending:
        store = self.reading.view
        epochs = {flag: store.flags[flag].epoch if store else 0 for flag in action.flags}
        reason = f"braked by {', '.join(action.engines)}: {action.cause.value}"
        return rollback(epochs, action.cause, reason, self.clock(), brakes=action.brakes)

    async def _record(self, action: Record) -> bool:
        try:
            snapshot = await asyncio.to_thread(self.deeds.record, action, self.clock())
        except (StoreError, OSError) as error:
            self.reading.failed(f"the rollback is not in the store yet: {error}")
            return False
        self.reading.take(snapshot)
        return True

    async def _quietly(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            if isinstance(action, Close):
                self._close(action)
        snapshot = self.reading.snapshot
        raises = [action for action in actions if isinstance(action, Deliver)]
        if snapshot is not None and not self.once:
            self._log(await deliver(raises, self._engines, snapshot))
            renewals = [action for action in actions if isinstance(action, Renew)]
            self._log(await renew(renewals, self._engines))

    def _close(self, action: Close) -> None:
        self.deeds.remember(action)
        self.deeds.mark("closed")
        begun = self._begun.pop(action.pending, None)
        if begun is not None:
            self.metrics.seconds.observe(monotonic() - begun)
            log.warning(
                "rollback %s is everywhere after %.2f s", action.pending, monotonic() - begun
            )

    def _log(self, failed: Mapping[str, str]) -> None:
        for why in failed.values():
            log.warning("%s", why)

    def _beat(self, situation: Situation, actions: tuple[Action, ...], now: datetime) -> None:
        generation = situation.store.generation if situation.store else None
        body = {"at": now.isoformat(), "generation": generation, "actions": len(actions)}
        replace_json(self.folder / HEARTBEAT_FILE, body, durable=False)


def _key(action: Action) -> str:
    return repr(action)
