"""Starts runtime processes, one after the other, and lets only the latest one speak."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from engine.runtime import blas
from engine.runtime.child import Child, Spawn
from engine.runtime.interface import RuntimeStartError
from engine.runtime.messages import Fault, Faulted, FromRuntime, Ready, Step

log = logging.getLogger("engine.runtime.launcher")

#: Loading takes seconds for the built-in models, minutes for 30 billion parameters.
START_SECONDS: Final = 600.0

News = Step | Fault | Faulted


class Launcher:
    """Owns the epoch: each process has its own, and frames of an earlier one are dropped.

    Args:
        spawn: starts a process of an epoch.
        on_news: hears what the latest process says once it is ready.

    Attributes:
        facts: what the latest process said of itself when it was ready.
    """

    def __init__(self, spawn: Spawn, on_news: Callable[[News], None]) -> None:
        self._spawn = spawn
        self._on_news = on_news
        self._epoch = 0
        self._ready: asyncio.Future[Ready] | None = None
        self.facts: Ready | None = None

    async def launch(self) -> Child:
        """Start a process of the next epoch and wait until it is ready.

        Raises:
            RuntimeStartError: it ended, or was not ready in time; it is gone then.
        """
        self._epoch += 1
        self._ready = asyncio.get_running_loop().create_future()
        child = await self._spawn(self._epoch, self._on_frame)
        try:
            self.facts = await _ready(child, self._ready)
        except BaseException:  # also when cancelled: no process stays behind
            await child.kill()
            raise
        _tell(self.facts)
        return child

    def _on_frame(self, frame: FromRuntime) -> None:
        if frame.epoch != self._epoch:
            return
        if not isinstance(frame, Ready):
            self._on_news(frame)
        elif self._ready and not self._ready.done():
            self._ready.set_result(frame)


async def _ready(child: Child, ready: asyncio.Future[Ready]) -> Ready:
    either: set[asyncio.Future[Any]] = {ready, child.ended}
    await asyncio.wait(either, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if ready.done():
        return ready.result()
    what = child.ended.result() if child.ended.done() else f"not ready in {START_SECONDS:g} s"
    await child.kill()  # its last words come with its end
    raise RuntimeStartError(f"the runtime did not start: {what}: {child.tail()}")


def _tell(facts: Ready) -> None:
    log.info("runtime %d is ready on %s with BLAS %s", facts.pid, facts.device, facts.blas)
    if facts.blas == blas.REFERENCE:
        log.warning("%s", blas.ADVICE)
