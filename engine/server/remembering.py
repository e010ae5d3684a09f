"""Writes down what an engine must not forget: in order, in one thread, beside the event loop.

Brakes first: who rolls back waits for them and for nothing else. What could not be written stays
pending, and is tried again.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from engine.core.brakes import Brake
from engine.server.kept import Kept
from engine.server.state import EngineState, StateError

log = logging.getLogger("engine.server.rollout")

#: A disk that takes longer is told of, while whoever rolls back still listens: the commands wait
#: for an answer for 4 s, and ask again until 10 s are over.
DURABLE_SECONDS: Final = 3.0

#: Brakes by flag and id.
_Brakes = Mapping[tuple[str, str], Brake]


class Remembering:
    """Owns what is not durable yet. Lives in one event loop.

    Attributes:
        failure: why something is pending although it was tried; None while all is well.
    """

    def __init__(self, memory: EngineState) -> None:
        self._memory = memory
        self._writer = ThreadPoolExecutor(1, "rollout state")
        self._writing: Future[None] | None = None
        self._brakes: dict[tuple[str, str], Brake] = {}
        self._lifts: dict[tuple[str, str], Brake] = {}
        self._kept: Kept | None = None
        self.failure: str | None = None

    @property
    def troubles(self) -> list[str]:
        """What could not be read at the start, and what cannot be written now."""
        failing = [self.failure] if self.failure else []
        return [
            *self._memory.troubles,
            *(text for text in failing if text not in self._memory.troubles),
        ]

    @property
    def pending(self) -> bool:
        """Whether something is to be written, and nothing is being written."""
        idle = self._writing is None or self._writing.done()
        return idle and bool(self._brakes or self._lifts or self._kept)

    @property
    def lifted(self) -> tuple[str, ...]:
        """Ids of lifted brakes whose files are still there."""
        return tuple(brake_id for _, brake_id in self._lifts)

    def brake(self, flag: str, brake: Brake) -> None:
        """A brake is to be written."""
        self._brakes[flag, brake.id] = brake

    def lift(self, flag: str, brake: Brake) -> None:
        """A brake is to be forgotten, behind what lifts it."""
        self._brakes.pop((flag, brake.id), None)
        self._lifts[flag, brake.id] = brake

    def serves(self, kept: Kept) -> None:
        """Other things serve."""
        self._kept = kept

    def write(self) -> None:
        """Write everything, before the event loop serves. Blocks; a failure is noted."""
        what = self._brakes, self._kept, self._lifts
        try:
            self._write(*what)
        except StateError as error:
            self._failed(error)
        else:
            self._written(*what)

    async def brakes_durable(self) -> None:
        """Write the brakes.

        Raises:
            StateError: they cannot be written, or not in time. They stay pending.
        """
        await self._flush(dict(self._brakes), None, {})

    async def durable(self) -> None:
        """Write everything.

        Raises:
            StateError: as above.
        """
        await self._flush(dict(self._brakes), self._kept, dict(self._lifts))

    async def _flush(self, brakes: _Brakes, kept: Kept | None, lifts: _Brakes) -> None:
        try:
            await self._in_thread(lambda: self._write(brakes, kept, lifts))
        except StateError as error:
            self._failed(error)
            raise
        self._written(brakes, kept, lifts)

    async def _in_thread(self, work: Callable[[], None]) -> None:
        self._writing = self._writer.submit(work)
        done, _ = await asyncio.wait({asyncio.wrap_future(self._writing)}, timeout=DURABLE_SECONDS)
        if not done:
            raise StateError(f"not written within {DURABLE_SECONDS:g} s")
        done.pop().result()

    def _write(self, brakes: _Brakes, kept: Kept | None, lifts: _Brakes) -> None:
        failures = []
        for (flag, _), brake in brakes.items():
            try:
                self._memory.brake(flag, brake)
            except StateError as error:  # the next may fit, or leave its name at least
                failures.append(error)
        if failures:
            raise failures[0]
        if kept is not None:
            self._memory.keep(kept)
        for (flag, _), brake in lifts.items():
            self._memory.lift(flag, brake)

    def _written(self, brakes: _Brakes, kept: Kept | None, lifts: _Brakes) -> None:
        for key in list(brakes):
            self._brakes.pop(key, None)
        for key in list(lifts):
            self._lifts.pop(key, None)
        if self._kept is kept:
            self._kept = None
        if self.failure is not None and not (self._brakes or self._lifts or self._kept):
            log.warning("the rollout's state is durable again")
            self.failure = None

    def _failed(self, error: StateError) -> None:
        if self.failure != str(error):
            log.error("the rollout's state is not durable: %s", error)
        self.failure = str(error)
