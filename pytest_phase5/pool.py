"""Which engines run right now: one group at a time, so that nobody measures beside a stranger.

Tests that follow each other and ask for the same engines share them; any other request
stops what runs first.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_phase5.engines import Engine, EngineError, RunningEngine, identify
from pytest_phase5.launching import OWN_COMMAND, EngineProcess, start_process, stopping
from pytest_phase5.markers import EngineSpec
from pytest_phase5.options import Settings


@dataclass(slots=True)
class _Running:
    engine: Engine
    process: EngineProcess | None = None
    outside: RunningEngine | None = None

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop(self.engine.url)
        elif self.outside is not None and self.outside.stop is not None:
            self.outside.stop()

    def require_alive(self) -> None:
        if self.process is not None:
            self.process.require_alive(self.engine.url)


@dataclass(slots=True)
class EnginePool:
    """Starts and stops the engines of one pytest process. The only owner of running engines."""

    settings: Settings
    hook: Any  #: pytest's hook relay, for `pytest_phase5_start_engine`
    logs: Path
    worker: str = "main"
    _group: dict[EngineSpec, _Running] = field(default_factory=dict)
    _started: int = 0

    def group(self, *specs: EngineSpec) -> tuple[Engine, ...]:
        """Exactly these engines, running: the former group again, or a new one.

        Raises:
            EngineError: one died, did not start, or one of the former did not stop clean.
        """
        if set(specs) == set(self._group):
            self._require_alive()
        else:
            self.stop_group()
            for spec in specs:
                self._group[spec] = self._start(spec)
        return tuple(self._group[spec].engine for spec in specs)

    def settle(self, next_specs: frozenset[EngineSpec]) -> None:
        """After a test: stop what the next one does not need, and see that the rest lives.

        Raises:
            EngineError: one died, or did not stop clean.
        """
        if next_specs == set(self._group):
            self._require_alive()
        else:
            self.stop_group()

    def stop_group(self) -> None:
        """Stop what runs.

        Raises:
            EngineError: for each that did not stop clean, in one line.
        """
        running, self._group = list(self._group.values()), {}
        problems = []
        for engine in running:
            try:
                engine.stop()
            except EngineError as error:
                problems.append(str(error))
        if problems:
            raise EngineError("; ".join(problems))

    @contextlib.contextmanager
    def another(self, spec: EngineSpec) -> Iterator[Engine]:
        """One more engine, for the length of a block."""
        running = self._start(spec)
        with stopping(running.stop):
            yield running.engine

    def _require_alive(self) -> None:
        try:
            for running in self._group.values():
                running.require_alive()
        except EngineError:
            with contextlib.suppress(EngineError):  # the first one is what shows
                self.stop_group()
            raise

    def _start(self, spec: EngineSpec) -> _Running:
        outside = self._outside(spec)
        if outside is not None:
            return self._adopt(spec, outside)
        log = self._new_log(spec)
        process = start_process(
            self.settings.engine_command or OWN_COMMAND,
            spec,
            config=self.settings.config,
            log=log,
            start_seconds=self.settings.start_seconds,
        )
        try:
            url = process.ready["ready"]
            identity, second = identify(url, spec, started_here=True)
        except BaseException:
            process.kill()
            raise
        engine = Engine(
            url=url,
            h2_url=process.ready.get("ready-h2") or second or None,
            flag_set=spec.flag_set,
            identity=identity,
            pid=process.pid,
            log=log,
        )
        return _Running(engine, process=process)

    def _outside(self, spec: EngineSpec) -> RunningEngine | None:
        if self.settings.engine_url is not None:
            return RunningEngine(url=self.settings.engine_url)
        started: RunningEngine | None = self.hook.pytest_phase5_start_engine(
            flag_set=spec.flag_set, model=spec.model
        )
        return started

    def _adopt(self, spec: EngineSpec, outside: RunningEngine) -> _Running:
        try:
            identity, second = identify(outside.url, spec, started_here=outside.stop is not None)
        except BaseException:
            if outside.stop is not None:
                outside.stop()
            raise
        engine = Engine(
            url=outside.url,
            h2_url=second or None,
            flag_set=spec.flag_set,
            identity=identity,
            pid=outside.pid,
        )
        return _Running(engine, outside=outside)

    def _new_log(self, spec: EngineSpec) -> Path:
        self._started += 1
        name = re.sub(r"[^A-Za-z0-9_.+-]", "_", f"{spec.flag_set}-{spec.model or 'default'}")
        return self.logs / f"engine-{self.worker}-{self._started:03}-{name}.log"
