"""`phase5 watch`: a guard built from a configuration, and kept going.

It runs until it is told to stop. What it does not expect ends it: whoever supervises it starts it
again, and until then the engines' leases run on; a guard that goes on without knowing how it
stands would renew them.
"""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.config import ConfigError, load_config
from gates.direct import Direct
from gates.engines import EngineClient, ask_each, clients
from gates.guarding.concerns import holds
from gates.guarding.evidence import LEAD, Evidence, Sooner, until_sample
from gates.guarding.folder import TOLD_FILE, read_json, replace_json
from gates.guarding.loop import Guard
from gates.guarding.situation import Action, Situation, Tell
from gates.guarding.telling import Telling, receivers
from gates.ledger import CLOSED_AFTER
from gates.live import Source
from gates.prometheus import Access, Prometheus

if TYPE_CHECKING:
    from engine.config import Config
    from engine.rollout_config import RolloutConfig

log = logging.getLogger("phase5.guard")


@dataclass(slots=True, kw_only=True)
class Watch:
    """Owns the guard, what it listens to, and whom it tells."""

    config: Path
    rollout: "RolloutConfig"
    guard: Guard
    evidence: Evidence  #: of the guard
    poll_seconds: float
    close_seconds: float = CLOSED_AFTER
    as_json: bool = False
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    _changed: int = 0
    _telling: "asyncio.Task[None] | None" = None

    async def forever(self) -> None:
        """Poll until told to stop; a changed configuration is taken up between two polls."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop.set)
        await self.guard.reading.refresh()
        while not self.stop.is_set():
            rollout = self._in_force()
            async with self._listening(rollout) as (engines, telling):
                while not self.stop.is_set() and self._in_force() == rollout:
                    await self._poll(engines, telling)
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self.stop.wait(), self.poll_seconds)
                    self._reload()
                if self._telling is not None:
                    await self._telling
        self.guard.ledgers.close()

    async def once(self) -> tuple[Situation, tuple[Action, ...]]:
        """One look, told and done."""
        await self.guard.reading.refresh()
        async with self._listening(self._in_force()) as (engines, telling):
            situation, actions = await self.guard.poll(engines)
            self._tell(telling, actions)
            if self._telling is not None:
                await self._telling
        self.guard.ledgers.close()
        return situation, actions

    def _in_force(self) -> "RolloutConfig":
        """The store's section where it names engines: our own file may be an old copy of it."""
        snapshot = self.guard.reading.snapshot
        stored = snapshot.config.rollout if snapshot else None
        return stored if stored and stored.engines else self.rollout

    @asynccontextmanager
    async def _listening(
        self, rollout: "RolloutConfig"
    ) -> AsyncIterator[tuple[tuple[EngineClient, ...], Telling]]:
        ca = Path(rollout.ca) if rollout.ca else None
        evidence = self.evidence
        evidence.engines = len(rollout.engines)
        sooner = CLOSED_AFTER - self.close_seconds
        evidence.sources = [
            Sooner(source, sooner) for source in sources_of(rollout, evidence.direct)
        ]
        self.guard.sooner = timedelta(seconds=sooner)
        self.guard.leases = rollout.lease_seconds.model_dump()
        telling = Telling(self.guard.reading.store.where, receivers(rollout.webhook))
        telling.load(read_json(self.guard.folder / TOLD_FILE))
        async with clients(rollout.engines, ca=ca) as engines:
            sampling = asyncio.create_task(sample(evidence, engines))
            try:
                yield engines, telling
            finally:
                sampling.cancel()
                with suppress(asyncio.CancelledError):
                    await sampling

    async def _poll(self, engines: tuple[EngineClient, ...], telling: Telling) -> None:
        situation, actions = await self.guard.poll(engines)
        self._tell(telling, actions)
        if self.as_json:
            sys.stdout.write(json.dumps(summary(situation, actions)) + "\n")
            sys.stdout.flush()

    def _tell(self, telling: Telling, actions: Sequence[Action]) -> None:
        """Beside the polls: a receiver that hangs delays no brake."""
        if self._telling is not None and not self._telling.done():
            return
        notes = telling.due([a for a in actions if isinstance(a, Tell)], datetime.now(UTC))
        for note in notes:
            log.warning("%s", note.text)
        self._telling = asyncio.create_task(self._send(telling, notes)) if notes else None

    async def _send(self, telling: Telling, notes: Sequence[Any]) -> None:
        for why in await telling.send(notes):
            self.guard.metrics.untold.inc()
            log.error("notification: %s", why)
        replace_json(self.guard.folder / TOLD_FILE, telling.dump())

    def _reload(self) -> None:
        """A configuration that cannot be read leaves the former one in force."""
        with suppress(OSError):
            changed = self.config.stat().st_mtime_ns
            if changed == self._changed:
                return
            self._changed = changed
            try:
                self.rollout = load_config(self.config).rollout
            except ConfigError as error:
                log.error("%s", error)  # noqa: TRY400 - the operator's mistake, not ours


async def sample(evidence: Evidence, engines: Sequence[EngineClient]) -> None:
    """Read the engines' counters just before every minute's edge."""
    while True:
        await asyncio.sleep(until_sample(datetime.now(UTC)))
        begun = datetime.now(UTC)
        answers = await ask_each(engines, lambda one: one.metrics(), seconds=LEAD)
        texts = {url: text for url, text in answers.items() if isinstance(text, str)}
        evidence.direct.keep(begun, texts)


def sources_of(rollout: "RolloutConfig", direct: Direct) -> tuple[Source, ...]:
    """Prometheus where there is one, then the engines."""
    if rollout.prometheus is None:
        return (direct,)
    access = Access(ca=Path(rollout.ca)) if rollout.ca else Access()
    return (Prometheus(rollout.prometheus, access), direct)


def holdbacks(config: "Config") -> dict[str, float]:
    """Per cent of each flag that stay control at full."""
    rollout = config.phase4_rollout
    return {name: rollout.flag(name).holdback_percentage for name in type(rollout).model_fields}


def summary(situation: Situation, actions: Sequence[Action]) -> dict[str, Any]:
    """A poll as one JSON object."""
    store = situation.store
    return {
        "generation": store.generation if store else None,
        "flags": {
            flag: {"stage": standing.stage, "epoch": standing.epoch}
            for flag, standing in (store.flags.items() if store else ())
        },
        "engines": {
            each.url: {"engine_id": each.view.engine_id if each.view else None, "error": each.error}
            for each in situation.engines
        },
        "rollbacks": [
            {
                "flags": list(each.flags),
                "cause": each.cause.value,
                "reason": each.reason,
                "verdict": each.verdict or None,
                "unacknowledged": list(each.unacknowledged),
            }
            for each in situation.pending
        ],
        "concerns": list(holds(actions)),
    }
