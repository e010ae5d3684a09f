"""What stands above the configuration: this engine's brakes and its lease.

In memory everything takes effect in one step of the event loop. It is written behind that, and
whoever asked is answered when it is durable. So a brake needs no lock, no readable configuration
and no disk that works: without one it holds while the process lives.
"""

import asyncio
import logging
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from engine.core.brakes import Brake, Cause, standing
from engine.core.flags import FLAGS
from engine.core.lease import FULL, Lease, bound
from engine.server.kept import Kept
from engine.server.parts import Clocks
from engine.server.remembering import Remembering
from engine.server.rollout_documents import LeaseStatus
from engine.server.settings import Settings, Taken
from engine.server.state import EngineState, StateError

if TYPE_CHECKING:
    from engine.server.engine import Engine

log = logging.getLogger("engine.server.rollout")

#: How often the lease is looked at, and what could not be written is tried again.
LOOK_SECONDS: Final = 0.25

_FROZEN: Final = "the lease lapsed while a flag is at full: until it is renewed no raise is taken"
_UNSAFE: Final = "no raise is taken while no brake can be kept: {}"


class EngineRollout:
    """Owns the brakes and the lease of an engine.

    Args:
        memory: what the last process left, and where this one writes.
        clocks: of the engine.

    Attributes:
        brakes: by flag; a braked flag serves 0 %.
        rollbacks: how many were asked for; a change that began before the last lifts nothing.
    """

    def __init__(self, memory: EngineState, clocks: Clocks) -> None:
        self._clocks = clocks
        self._lease: Lease | None = None
        self._needed = False  # whether anything that is served needs the lease
        self._paged = False
        self._memory = memory
        self._remembering = Remembering(memory)
        self.brakes: dict[str, Brake] = dict(memory.brakes)
        self.rollbacks = 0

    def resume(self, settings: Settings) -> Settings:
        """What serves at the start: what served before, then the file, as if reloaded. Blocks."""
        taken = self._resumed(settings, self._memory.kept)
        if taken.reason is not None:
            log.warning("%s: %s", settings.path, taken.reason)
        self.enter(taken.settings, taken.lifted)
        self._remembering.write()
        for name, brake in self.brakes.items():
            log.warning("%s is braked (%s): %s", name, brake.cause, brake.reason or brake.id)
        return taken.settings

    def _resumed(self, settings: Settings, kept: Kept | None) -> Taken:
        if kept is None:
            flags = settings.config.phase4_rollout
            return Taken(settings=settings, lifted={n: flags.flag(n).lifted for n in FLAGS})
        before = settings.resumed(kept.served, kept.delivered, kept.told)
        if kept.lease is not None:
            self._lease = Lease.resume(*kept.lease, **self._times())
        self._needed = bool(self._unbraked(before))
        return before.told_anew(settings.told, self.refusal(before))

    def enter(self, settings: Settings, lifted: Mapping[str, Iterable[str]]) -> None:
        """Other settings serve from now on: lift what they cite, and see to the lease."""
        left = standing(self.brakes, lifted)
        for name in self.brakes.keys() - left.keys():
            log.warning("%s: brake %s is lifted", name, self.brakes[name].id)
            self._remembering.lift(name, self.brakes[name])
        self.brakes = left
        self._see_to_lease(settings)
        self._note(settings)

    def _see_to_lease(self, settings: Settings) -> None:
        needed, seconds = self._needed, self._bound(settings)
        self._needed = seconds is not None
        if seconds is None:
            return
        if self._lease is None or (self.lapsed and not needed):
            # The first flag that needs one: its guard has so long to be heard of.
            self._lease, self._paged = Lease.grant(seconds, **self._times()), False
        else:
            self._lease = self._lease.at_most(seconds, **self._times())

    # Brakes.

    async def roll_back(
        self, engine: "Engine", flags: Iterable[str], cause: Cause, reason: str
    ) -> dict[str, str]:
        """Brake flags, at once; returns the ids of their brakes when they are durable.

        A flag that is braked keeps its brake. After a crash, treated streams go on without the
        feature; else live streams keep their flags.

        Raises:
            StateError: the brakes hold in memory only, so far.
        """
        self.rollbacks += 1
        flags = list(flags)
        for name in flags:
            if name not in self.brakes:
                self.brakes[name] = self._draw(cause, reason)
            # Also one that is known: that it is durable is answered for now, not for then.
            self._remembering.brake(name, self.brakes[name])
        ids = {name: self.brakes[name].id for name in flags}
        self._needed = bool(self._unbraked(engine.settings))
        engine.serve()
        if cause is Cause.CRASH:
            engine.dispatcher.without(flags)
        log.warning("rolled back (%s): %s: %r", cause, ", ".join(flags) or "none", reason)
        await self._remembering.brakes_durable()
        return ids

    def _draw(self, cause: Cause, reason: str) -> Brake:
        # Drawn, so that no state cites it which does not know of it.
        return Brake(id=secrets.token_hex(8), cause=cause, reason=reason, at=self._clocks.wall())

    # The lease.

    @property
    def lapsed(self) -> bool:
        """Whether the last lease is over."""
        return self._lease is not None and self._lease.lapsed(**self._times())

    def frozen(self, settings: Settings) -> bool:
        """Whether it is over while a flag is at full: that serves on, and nothing is raised."""
        return self.lapsed and FULL in self._unbraked(settings).values()

    def refusal(self, settings: Settings) -> str | None:
        """Why no raise may be taken now; None when it may."""
        if self._remembering.failure is not None:
            return _UNSAFE.format(self._remembering.failure)
        return _FROZEN if self.frozen(settings) else None

    async def renew(self, engine: "Engine", seconds: float) -> float | None:
        """Grant a lease from now on; until when, in seconds since 1970. None under `--flags`.

        Never a longer one than the configuration allows to the stages that serve.

        Raises:
            StateError: it holds in memory only, so far.
        """
        settings = engine.settings
        if settings.forced is not None:
            return None
        thaw = self.frozen(settings)
        allowed = self._bound(settings) or max(self._seconds(settings).values())
        self._lease = Lease.grant(min(seconds, allowed), **self._times())
        self._paged = False
        self._note(settings)
        if thaw:
            log.warning("the lease is renewed: the configuration is read again")
            await engine.reloads.attempt("lease")
        await self._remembering.durable()
        return self._lease.expires_at

    async def watch(self, engine: "Engine") -> None:
        """Do what time alone brings. Runs until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with suppress(StateError):  # it is logged, shown, and tried again
                await self.look(engine)

    async def look(self, engine: "Engine") -> None:
        """Brake what may not be served unwatched any longer, and write what could not be.

        Raises:
            StateError: something is not durable so far.
        """
        if self.lapsed:
            stages = self._unbraked(engine.settings)
            unwatched = [name for name, stage in stages.items() if stage != FULL]
            if unwatched:
                await self.roll_back(engine, unwatched, Cause.DEAD_MAN, "no guard was heard of")
            if len(unwatched) < len(stages) and not self._paged:
                self._paged = True
                log.error("%s: %s", ", ".join(stages.keys() - set(unwatched)), _FROZEN)
        if self._remembering.pending:
            await self._remembering.durable()

    def _bound(self, settings: Settings) -> float | None:
        return bound(self._unbraked(settings).values(), self._seconds(settings))

    def _seconds(self, settings: Settings) -> dict[str, float]:
        return settings.config.rollout.lease_seconds.model_dump()

    def _unbraked(self, settings: Settings) -> dict[str, str]:
        stages = settings.watched()
        return {name: stage for name, stage in stages.items() if name not in self.brakes}

    def _times(self) -> dict[str, float]:
        return {"now": self._clocks.now(), "wall": self._clocks.wall()}

    # What is kept and shown.

    def lease_view(self, settings: Settings) -> LeaseStatus:
        """The lease as `/v1/status` shows it."""
        return LeaseStatus(
            expires_at=None if self._lease is None else self._lease.expires_at,
            lapsed=self.lapsed,
            frozen=self.frozen(settings),
        )

    @property
    def durable(self) -> bool:
        """Whether what was to be written last was."""
        return self._remembering.failure is None

    @property
    def troubles(self) -> list[str]:
        """What could not be read, or cannot be written."""
        return self._remembering.troubles

    async def remember(self) -> None:
        """Write down what serves.

        Raises:
            StateError: it serves, and is not durable so far.
        """
        await self._remembering.durable()

    def _note(self, settings: Settings) -> None:
        lease = self._lease
        self._remembering.serves(
            Kept(
                served=settings.state,
                delivered={name: served.delivered for name, served in settings.served.items()},
                told=settings.told,
                lease=None if lease is None else (lease.seconds, lease.expires_at),
                lifted=self._remembering.lifted,
            )
        )
