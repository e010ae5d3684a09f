"""How a running engine comes to another configuration.

By a signal, by a request, or because the file changed: the new one is read and validated in a
thread, then takes the place of the old one in one step of the event loop. What cannot serve
changes nothing, and is told. The guard delivers the rollout's state in the same way.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from engine.config import ConfigError
from engine.core.brakes import braked, standing
from engine.server.features import wants_http2
from engine.server.settings import Seen, Taken, delivered_state, look
from engine.server.sockets import ListenError
from engine.server.state import StateError

if TYPE_CHECKING:
    from engine.server.engine import Engine

log = logging.getLogger("engine.server.reloading")

#: How often the file is looked at.
POLL_SECONDS: Final = 0.25

Source = Literal["file", "request", "signal", "lease"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of the last reload.

    Attributes:
        reason: why it was refused, or what of the file was left out; None when all was taken.
        at: seconds since 1970.
    """

    outcome: Literal["applied", "refused"]
    source: Source
    reason: str | None
    at: float


class FileChange:
    """Tells when a file has become another one, by its place and its content.

    The place counts with all links followed, so that a swapped link is a change, as in a
    mounted ConfigMap. A change counts when two looks in a row have found it: an editor that
    writes in place may be seen half-way, and half a file can be valid.
    """

    def __init__(self, path: Path, known: Seen) -> None:
        self._path = path
        self._known = self._found = known

    def poll(self) -> bool:
        """Look once. Whether there is a change that was not told yet. Reads the file: blocks."""
        before, self._found = self._found, look(self._path)
        settled = self._found == before != self._known
        if settled:
            self._known = self._found
        return settled

    def taken(self) -> None:
        """The file as it is now is known by another way. Blocks."""
        self._known = self._found = look(self._path)


class Reloader:
    """Owns the order of reloads: one at a time, each with its outcome.

    Args:
        wall: seconds since 1970.
    """

    def __init__(self, engine: "Engine", wall: Callable[[], float]) -> None:
        self._engine = engine
        self._wall = wall
        self._turn = asyncio.Lock()
        self._change = FileChange(engine.settings.path, engine.settings.seen)
        self.last: Outcome | None = None

    async def reload(self, source: Source) -> list[str]:
        """Read the configuration again and swap it in; live streams keep their flags.

        Returns:
            Changed sections that take effect only at the next start.

        Raises:
            ConfigError, ListenError: the old configuration goes on serving.
        """
        async with self._turn:
            try:
                await asyncio.to_thread(self._change.taken)
                return await self._swap(source)
            except (ConfigError, ListenError) as error:
                self._tell(source, "refused", str(error))
                log.warning("reload refused, the old configuration serves on: %s", error)
                raise

    async def attempt(self, source: Source) -> None:
        """As `reload`, where nobody waits for the outcome: it is logged and shown."""
        with suppress(ConfigError, ListenError):
            await self.reload(source)

    async def deliver(self, generation: int, flags: Mapping[str, Mapping[str, Any]]) -> Taken:
        """Let a state of the store serve; keys that it does not give stay as they are.

        Raises:
            pydantic.ValidationError: a value that the configuration does not allow.
            ListenError: the old state goes on serving.
            StateError: it serves, but is not durable so far.
        """
        engine = self._engine
        async with self._turn:
            settings, rollbacks = engine.settings, engine.rollout.rollbacks
            state = delivered_state(settings.config, generation, flags)
            taken = settings.taking(state, engine.rollout.refusal(settings))
            await self._switch(taken, rollbacks)
            log.info("delivered: generation %d: %s", generation, taken.reason or "taken")
            await engine.rollout.remember()
            return taken

    async def watch(self) -> None:
        """Reload whenever the file changes. Runs until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if await asyncio.to_thread(self._change.poll):
                await self.attempt("file")

    async def _swap(self, source: Source) -> list[str]:
        engine = self._engine
        rollbacks, refusal = engine.rollout.rollbacks, engine.rollout.refusal(engine.settings)
        taken = await asyncio.to_thread(engine.settings.reread, refusal)
        await self._switch(taken, rollbacks)
        new, waiting = taken.settings, list(taken.waiting)
        if taken.reason is not None:
            log.warning("%s: %s", new.path, taken.reason)
        self._tell(source, "applied", taken.reason)
        log.info("reloaded %s at generation %d", new.path, new.config.generation)
        if waiting:
            log.warning("changed, but only a restart takes it over: %s", ", ".join(waiting))
        with suppress(StateError):  # it serves; that it is not durable is logged and shown
            await engine.rollout.remember()
        return waiting

    async def _switch(self, taken: Taken, rollbacks: int) -> None:
        """Let other settings serve, in one step.

        They lift no brake if there has been a rollback since there were so many `rollbacks`:
        whoever asked for it was told that the brake stands.

        Raises:
            ListenError: the second port cannot be had. Nothing has changed.
        """
        engine = self._engine
        brakes = standing(engine.rollout.brakes, taken.lifted)
        if engine.http2_port is not None and wants_http2(braked(taken.settings.states(), brakes)):
            await engine.http2_port.open()  # first: if it fails, nothing has changed
        with engine.metrics.swap_seconds.time():
            engine.settings = taken.settings
            lifted = taken.lifted if engine.rollout.rollbacks == rollbacks else {}
            engine.rollout.enter(taken.settings, lifted)
            engine.serve()

    def _tell(
        self, source: Source, outcome: Literal["applied", "refused"], reason: str | None
    ) -> None:
        self.last = Outcome(outcome=outcome, source=source, reason=reason, at=self._wall())
        self._engine.metrics.reloaded(outcome)
