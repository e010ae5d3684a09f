"""What the fixture `faults` gives to a test."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from chaos.catalogue import experiment_named
from chaos.errors import ChaosError
from chaos.journal import Account, gate_journal, write
from chaos.runner import run as carry_out
from chaos.toxiproxy import Proxy, Toxiproxy
from pytest_phase5.breaking.proof import identity
from pytest_phase5.breaking.stage import LocalStage
from pytest_phase5.engines import Engine
from pytest_phase5.launching import OWN_COMMAND
from pytest_phase5.markers import chaos as chaos_mark
from pytest_phase5.markers import wanted_engines
from pytest_phase5.options import Settings
from pytest_phase5.recording import LOGS_DIR, Evidence, run_of
from pytest_phase5.stash import SETTINGS


@dataclass(slots=True)
class Faults:
    """Breaks things for a test, and puts them back when it ends, however it ends."""

    request: pytest.FixtureRequest
    evidence: Evidence
    engine: Engine | None
    _undo: ExitStack = field(default_factory=ExitStack)
    _server: Toxiproxy | None = None

    def run(self, name: str | None = None, *, compare: bool = False) -> Account:
        """Carry out an experiment, that of the test's `chaos` marker unless named.

        It breaks the test's `mlx_engine` where that has what it needs, else one of its own.
        Its journal becomes evidence; what its clients saw is charged to the fault and not to
        the engine's error budget. With `compare` a control goes through it as well.

        Raises:
            ChaosError: it cannot be carried out as asked.
        """
        experiment = experiment_named(name or self._marked())
        settings: Settings = self.request.config.stash[SETTINGS]
        stage = self._stage(experiment.name)
        account = carry_out(experiment, stage, compare=compare)
        write(stage.folder, account)
        engine = next(iter(stage.started), self.engine)
        if engine is None:
            raise ChaosError(f"{experiment.name}: there was no engine")
        known = replace(engine, identity=identity(engine, settings.config))
        self.evidence.record_journal(gate_journal(account), treatment=known)
        return account

    @property
    def toxiproxy(self) -> Toxiproxy:
        """A server of this test's own, started when it is first needed."""
        if self._server is None:
            self._server = self._undo.enter_context(self._stage("server").toxiproxy())
        return self._server

    @contextmanager
    def proxy(self, upstream: str) -> Iterator[Proxy]:
        """A proxy in front of HOST:PORT; see `Proxy.add` for its toxics."""
        with self.toxiproxy.proxy(self.request.node.name[:20], upstream) as proxy:
            yield proxy

    def close(self) -> None:
        """Put everything back."""
        self._undo.close()

    def _stage(self, name: str) -> LocalStage:
        settings: Settings = self.request.config.stash[SETTINGS]
        folder = run_of(self.request).folder / LOGS_DIR / "chaos"
        return LocalStage(
            folder=_unused(folder / name),
            model=settings.model or wanted_engines(self.request.node).model,
            config=settings.config,
            engine_now=self.engine,
            only=settings.engine_url is not None,
            command=settings.engine_command or OWN_COMMAND,
        )

    def _marked(self) -> str:
        mark = self.request.node.get_closest_marker("chaos")
        if mark is None or not mark.args:
            raise pytest.UsageError(
                f"{self.request.node.nodeid}: fixture 'faults' without an experiment; "
                "allowed: @pytest.mark.chaos(EXPERIMENT), or a name for run()"
            )
        return chaos_mark(*mark.args, **mark.kwargs)


def _unused(folder: Path) -> Path:
    """A folder that no earlier run has."""
    number = 0
    while (numbered := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    numbered.mkdir(parents=True)
    return numbered
