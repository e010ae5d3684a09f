"""Listeners, requests and scenes for tests on real runtime processes."""

import asyncio
import os
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil

from engine.config import RuntimeConfig
from engine.core.stall import StallLimit
from engine.runtime import blas
from engine.runtime.backends import LocalBackend
from engine.runtime.child import Child, OnFrame, Process, Spawn, worker_options
from engine.runtime.messages import Prefill, Submit, Token
from engine.runtime.models import ModelFiles
from engine.runtime.supervisor import Supervisor
from engine.runtime.work import Work

#: Far above what anything here takes; a test that needs it has already failed.
PATIENCE_SECONDS = 120.0

POISONED = Path(__file__).resolve().parents[1] / "engines" / "poisoned.py"

#: Everything unscaled: `./dev test --full`.
FULL = "PHASE5_FULL" in os.environ


@dataclass
class Ear:
    """A listener that remembers, and knows when its stream is over."""

    tokens: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def on_prefill(self, prefill: Prefill) -> None:
        pass

    def on_token(self, token: Token) -> None:
        self.tokens.append(token.token)
        self.heard.set()
        if token.finish:
            self.over.set()

    def on_fault(self, reason: str) -> None:
        self.faults.append(reason)
        self.over.set()

    async def has(self, tokens: int) -> None:
        """Wait until so many tokens came, or the stream is over."""
        while len(self.tokens) < tokens and not self.over.is_set():
            self.heard.clear()
            await self.heard.wait()


Scene = Callable[[Supervisor], Awaitable[None]]


class Play(Protocol):
    """Runs a scene with a started runtime; afterwards its process is gone."""

    def __call__(
        self,
        scene: Scene,
        *,
        poisoned: bool = False,
        stall: StallLimit | None = None,
        patience: float = PATIENCE_SECONDS,
    ) -> None: ...


async def play_scene(
    model: ModelFiles, scene: Scene, *, patience: float = PATIENCE_SECONDS, **options: Any
) -> None:
    spawn = options.pop("spawn", None) or local(model)
    supervisor = Supervisor(spawn, **options)
    async with asyncio.timeout(patience):
        await supervisor.start()
        try:
            await scene(supervisor)
        finally:
            await supervisor.stop()
    assert supervisor.replicas()[0].pid is None
    assert psutil.Process().children() == []


def local(model: ModelFiles, prefix_bytes: int = 1 << 24) -> Spawn:
    """Processes as `phase5 serve` starts them by default."""
    work = Work(model=model, config=RuntimeConfig(), prefix_bytes=prefix_bytes)
    return LocalBackend(work).spawn


def poisoned(model: ModelFiles) -> Spawn:
    """Processes that some requests are poison to."""

    async def spawn(epoch: int, on_frame: OnFrame) -> Child:
        options = worker_options(model.path, RuntimeConfig(), 1 << 24, epoch)
        worker = (sys.executable, "-P", str(POISONED))
        return await Process.start(options, blas.child_environment(0), on_frame, worker)

    return spawn


def requests(n: int, first_uid: int, **options: Any) -> list[Submit]:
    """The same prompts and seeds each time; only the ids differ."""
    source = random.Random(3)  # noqa: S311  # a reproducible choice, not a secret
    return [
        Submit(
            uid=first_uid + index,
            prompt=[source.randrange(300, 4000) for _ in range(source.randint(5, 90))],
            max_tokens=options.get("max_tokens", 24),
            seed=index,
            ignore_eos=True,
            **{name: value for name, value in options.items() if name != "max_tokens"},
        )
        for index in range(n)
    ]


def submit_all(supervisor: Supervisor, given: list[Submit]) -> list[Ear]:
    ears = [Ear() for _ in given]
    for one, ear in zip(given, ears, strict=True):
        supervisor.submit(one, ear)
    return ears


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what nothing announces; the scene's own limit ends it."""
    while not condition():  # noqa: ASYNC110  # see above
        await asyncio.sleep(0.001)


async def outputs(ears: list[Ear]) -> list[list[int]]:
    for ear in ears:
        await ear.over.wait()
        assert ear.faults == []
    return [ear.tokens for ear in ears]
