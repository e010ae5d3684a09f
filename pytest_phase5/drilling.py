"""Drills on scratch engines: what `phase5 drill` and the suite's own short one do.

Two engines and a store of their own, load on both, and the guard in this process. Nothing of the
configuration in use is touched: only what engines are measured by is taken from it.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from pytest_phase5.launching import OWN_COMMAND, EngineProcess, start_process, stopping
from pytest_phase5.markers import EngineSpec

if TYPE_CHECKING:
    from gates.engines import EngineClient
    from gates.guarding.drill import Drilled, Stretch
    from pytest_phase5.engines import Engine
    from pytest_phase5.options import Settings

#: The flag that is rehearsed: its streams are told apart by key, and need no second port.
FLAG: Final = "ttft_pipeline"

#: Seconds for the load to be there, and to be there again after the rollback.
PATIENCE: Final = 60.0

#: Tokens of each answer: long enough that a rollback falls into many of them.
TOKENS: Final = 48

_GLANCE: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """What a drill is carried out on."""

    config: Path  #: whose settings the engines have
    model: str = "tiny"
    engines: int = 2
    streams: int = 75  #: on all engines together
    command: tuple[str, ...] = OWN_COMMAND
    start_seconds: float = PATIENCE

    @classmethod
    def of(cls, settings: "Settings", config: Path, streams: int) -> "Scratch":
        """As pytest's options have it; the model is `tiny` unless they name one."""
        return cls(
            config=config,
            model=settings.model or "tiny",
            streams=streams,
            command=settings.engine_command or OWN_COMMAND,
            start_seconds=settings.start_seconds,
        )


def requested(scratch: Scratch) -> dict[str, Any]:
    """What a drill was asked to do, for its journal."""
    return {
        "flag": FLAG,
        "engines": scratch.engines,
        "streams": scratch.streams,
        "model": scratch.model,
    }


def engine_of(drilled: "Drilled") -> "Engine":
    """What was drilled, as evidence names it; its engines are gone.

    A drill is about no flag but about what takes any flag back: it speaks for all of them.
    """
    from gates.evidence import EngineIdentity
    from pytest_phase5.engines import Engine

    view = drilled.engines[0]
    identity = EngineIdentity(
        flag_set="off",
        model=view.model,
        model_sha256=view.model_sha256,
        engine_version=view.engine_version,
        commit=view.commit,
        config_sha256=view.config_sha256,
    )
    return Engine(url=view.url, flag_set="off", identity=identity)


def drill(scratch: Scratch, folder: Path) -> "Drilled":
    """Carry out a drill; its files stay in the folder.

    Raises:
        EngineError: an engine did not start or stop as it must.
        DrillError: the drill could not be carried out.
    """
    with _engines(scratch, folder) as processes:
        urls = [process.ready["ready"] for process in processes]
        config = _store(scratch, folder / "store", urls)
        return asyncio.run(_rehearsed(config, Pressing(urls, scratch.streams, folder / "load")))


@contextmanager
def _engines(scratch: Scratch, folder: Path) -> Iterator[list[EngineProcess]]:
    """All at once: each takes some seconds to start."""

    def start(number: int) -> EngineProcess:
        own = folder / f"engine-{number}"
        return start_process(
            scratch.command,
            EngineSpec("", scratch.model),
            config=_settings(scratch.config, own / "runtime.yaml"),
            log=own / "log",
            start_seconds=scratch.start_seconds,
        )

    # The pool's threads outlive the engines: the kernel tells a leash when its starter ends.
    with ThreadPoolExecutor(scratch.engines) as pool, ExitStack() as stack:
        starting = [pool.submit(start, number) for number in range(scratch.engines)]
        problems = []
        processes = []
        for future in starting:
            try:
                process = future.result()
            except Exception as error:  # noqa: BLE001 - the others must be stopped first
                problems.append(error)
                continue
            stack.enter_context(stopping(partial(process.stop, process.ready["ready"])))
            processes.append(process)
        if problems:
            raise problems[0]
        yield processes


def _settings(config: Path, path: Path, **more: Any) -> Path:
    """A configuration without its rollout: what serves is delivered."""
    import json

    import yaml

    document = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
    kept = {k: v for k, v in document.items() if k not in _ROLLOUT}
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**kept, **more}), encoding="utf-8")
    return path


#: Sections that are not the engine's settings.
_ROLLOUT: Final = frozenset({"phase4_rollout", "rollout", "generation"})


def _store(scratch: Scratch, folder: Path, urls: list[str]) -> Path:
    return _settings(scratch.config, folder / "runtime.yaml", rollout={"engines": urls})


@dataclass(slots=True)
class Pressing:
    """Streams to every engine, one stretch after another until told to stop."""

    urls: list[str]
    streams: int
    folder: Path
    stretches: "list[Stretch]" = field(default_factory=list)
    over: Event = field(default_factory=Event)

    def press(self, place: int) -> None:
        """Keep one engine busy."""
        from gates.guarding.drill import Stretch
        from pytest_phase5.load.checks import read_report
        from pytest_phase5.load.driver import REPORT_FILE, run_plan
        from pytest_phase5.load.plans import streams
        from pytest_phase5.load.workload import Workload

        url, each, number = self.urls[place], max(1, self.streams // len(self.urls)), 0
        while not self.over.is_set():
            plan = streams(
                url,
                concurrency=each,
                requests=2 * each,
                seed=1_000 * place + number,
                workload=Workload(name="drill", words=(3, 10), tokens=(TOKENS, TOKENS)),
                warmup=0,
                lag_limit=PATIENCE,  # no time of a request is judged
            )
            folder = self.folder / f"{place}-{number}"
            result = run_plan(plan, folder)
            report = folder / REPORT_FILE
            self.stretches.append(
                Stretch(
                    url=url,
                    origin=read_report(report).origin if report.exists() else monotonic(),
                    samples=result.samples,
                    trouble=result.invalid_reason,
                )
            )
            number += 1

    def answered_since(self, moment: float) -> bool:
        """Whether every engine has answered requests that were sent after a moment."""
        done = {s.url for s in list(self.stretches) if any(s.sent(moment))}
        return done == set(self.urls)


async def _rehearsed(config: Path, pressing: Pressing) -> "Drilled":
    from gates.engines import clients
    from gates.guarding.building import built
    from gates.guarding.drill import Drilled
    from gates.guarding.rehearsal import begin, made_up, rolled_back, seen

    folder = config.parent / "guard"
    async with clients(pressing.urls) as engines:
        evidence = await made_up(engines)
        parts = built(config, folder, evidence)
        await begin(parts.store, parts.policy, FLAG, parts.guard, engines)
        with ThreadPoolExecutor(len(pressing.urls)) as pool:
            pressed = [pool.submit(pressing.press, n) for n in range(len(pressing.urls))]
            try:
                await _until_busy(engines, pressing)
                begun = monotonic()
                timing = await rolled_back(parts.guard, evidence, FLAG, engines)
                await _until_answered(pressing, begun + timing.converge)
                views = await seen(engines)
            finally:
                pressing.over.set()
                await asyncio.to_thread(pool.shutdown)
        for each in pressed:
            each.result()
        parts.guard.ledgers.close()
    return Drilled(
        flag=FLAG,
        timing=timing,
        begun=begun,
        stretches=tuple(pressing.stretches),
        engines=tuple(views),
        problems=tuple(parts.store.history().problems),
    )


async def _until_busy(engines: "tuple[EngineClient, ...]", pressing: Pressing) -> None:
    """Until most streams of every engine are live."""
    from gates.guarding.rehearsal import DrillError, seen

    wanted = max(1, pressing.streams // len(pressing.urls) * 3 // 4)
    deadline = monotonic() + PATIENCE
    while True:
        live = [view.streams_in_flight for view in await seen(engines)]
        if len(live) == len(engines) and min(live) >= wanted:
            return
        if monotonic() > deadline:
            raise DrillError(f"streams live on the engines: {live}; wanted {wanted} on each")
        await asyncio.sleep(_GLANCE)


async def _until_answered(pressing: Pressing, moment: float) -> None:
    from gates.guarding.rehearsal import DrillError

    deadline = monotonic() + PATIENCE
    while not pressing.answered_since(moment):
        if monotonic() > deadline:
            raise DrillError(f"no answers after the rollback within {PATIENCE:g} s")
        await asyncio.sleep(_GLANCE)
