"""Where experiments take place: engines of our own, or one that runs already."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from chaos.disk import Disk, mounted
from chaos.errors import ChaosError
from chaos.installing import require_server
from chaos.serving import URL_VARIABLE, borrowed, serving
from chaos.stage import Subject
from chaos.toxiproxy import Toxiproxy
from engine.config import packaged
from engine.runtime.blas import tools_folder
from pytest_phase5.breaking.monitoring import (
    FIRST_LEASE_SECONDS,
    Guard,
    Place,
    prometheus,
    standing,
)
from pytest_phase5.breaking.traffic import Generators
from pytest_phase5.engines import Engine
from pytest_phase5.launching import LEASH, OWN_COMMAND
from pytest_phase5.load.subjects import started_engine

_PHASE5: Final = (sys.executable, "-P", "-m", "pytest_phase5.cli")


@dataclass(slots=True, kw_only=True)
class LocalStage:
    """On this machine.

    `engine_now` is an engine that runs already. Where it has the flags and the configuration
    that an experiment needs it is the one that is broken; `only` refuses any other.
    """

    folder: Path
    model: str | None = None
    config: Path | None = None
    engine_now: Engine | None = None
    only: bool = False
    command: tuple[str, ...] = OWN_COMMAND
    started: list[Engine] = field(default_factory=list)
    traffic: Generators = field(init=False)

    def __post_init__(self) -> None:
        """Traffic goes below the folder."""
        self.traffic = Generators(self.folder / "traffic")

    @contextmanager
    def engine(
        self,
        flags: str,
        config: Mapping[str, Any],
        environment: Mapping[str, str],
        disk: Disk | None = None,
    ) -> Iterator[Subject]:
        """See `Stage.engine`.

        Raises:
            ChaosError: the engine at hand serves other flags than the experiment needs.
        """
        now = self.engine_now
        if now is not None and now.flag_set == flags and not config and not environment:
            yield _subject(now, None)
            return
        if self.only:
            raise ChaosError(
                f"{now.url if now else 'the engine'} serves flags {now.flag_set if now else '?'}; "
                f"the experiment needs one of its own with flags {flags}; allowed: without "
                "--engine-url"
            )
        number = len(self.started)
        place = disk.outside if disk else self.folder
        file = self._write(place / f"engine-{number}.yaml", config)
        variables = [f"{name}={value}" for name, value in environment.items()]
        command = ("env", *variables, *self.command) if variables else self.command
        seen = file
        if disk is not None and file is not None:
            command, seen = (*disk.enter, *command), disk.inside / file.name
        log = self.folder / f"engine-{number}.log"
        with started_engine(
            flags, model=self.model, config=seen, log=log, command=command
        ) as engine:
            self.started.append(engine)
            yield _subject(engine, file)

    def managed(self, *, watched: bool) -> Mapping[str, Any]:
        """See `Stage.managed`."""
        return standing(FIRST_LEASE_SECONDS if watched else None)

    def prometheus(self, engine: Subject, target: str, watched: str) -> AbstractContextManager[str]:
        """See `Stage.prometheus`."""
        place = Place(LEASH, tools_folder(os.environ), self.folder / "prometheus")
        return prometheus(place, engine.url, target, barely=watched == "barely")

    @contextmanager
    def guard(self, engine: Subject, source: str) -> Iterator[Guard]:
        """See `Stage.guard`."""
        guard = Guard(LEASH, self.folder / "guard", engine.url, source)
        try:
            yield guard
        finally:
            guard.stop()

    def toxiproxy(self) -> AbstractContextManager[Toxiproxy]:
        """See `Stage.toxiproxy`."""
        url = os.environ.get(URL_VARIABLE)
        if url:
            return borrowed(url)
        binary = require_server(tools_folder(os.environ))
        return serving(binary, LEASH, self.folder / "toxiproxy.log")

    def disk(self) -> AbstractContextManager[Disk]:
        """See `Stage.disk`."""
        return mounted(self.folder / "disk", LEASH)

    def phase5(self, *arguments: str) -> Sequence[str]:
        """See `Stage.phase5`."""
        return (*_PHASE5, *arguments)

    def storing(self) -> Sequence[str]:
        """See `Stage.storing`."""
        return (sys.executable, "-P", "-m", "pytest_phase5.breaking.storing")

    def _write(self, file: Path, over: Mapping[str, Any]) -> Path | None:
        """The configuration of an engine: the one in use with some of it laid over."""
        if not over:
            return self.config
        base = self.config or packaged("runtime.yaml")
        document = yaml.safe_load(base.read_text(encoding="utf-8")) or {}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(_laid_over(document, over)), encoding="utf-8")
        return file


def _subject(engine: Engine, config: Path | None) -> Subject:
    return Subject(
        url=engine.url,
        h2_url=engine.h2_url,
        model=engine.identity.model,
        flag_set=engine.flag_set,
        pid=engine.pid,
        log=engine.log,
        config=config,
    )


def _laid_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        former = merged.get(name)
        deeper = isinstance(value, Mapping) and isinstance(former, Mapping)
        merged[name] = _laid_over(former or {}, value) if deeper else value
    return merged
