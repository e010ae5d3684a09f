"""Engines, stages and servers for breaking. The real ones: a missing tool fails."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from chaos.installing import require_server
from chaos.serving import serving
from chaos.toxiproxy import Toxiproxy
from engine.runtime.blas import tools_folder
from pytest_phase5.breaking.stage import LEASH, LocalStage
from pytest_phase5.engines import Engine
from pytest_phase5.load.subjects import started_engine

MakeStage = Callable[..., LocalStage]


@pytest.fixture(scope="session")
def binary() -> Path:
    return require_server(tools_folder(os.environ))


@pytest.fixture
def toxiproxy(binary: Path, tmp_path: Path) -> Iterator[Toxiproxy]:
    with serving(binary, LEASH, tmp_path / "toxiproxy.log") as server:
        yield server


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One for all experiments of a module that break nothing of it for good."""
    log = tmp_path_factory.mktemp("shared") / "engine.log"
    with started_engine("off", model="tiny", config=None, log=log) as running:
        yield running


@pytest.fixture
def stage(engine: Engine, tmp_path: Path) -> LocalStage:
    """Where that engine is the one to break."""
    return LocalStage(folder=tmp_path / "stage", model="tiny", engine_now=engine)


@pytest.fixture
def command() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts `phase5 ...`; what still runs at the end is killed."""
    with ExitStack() as running:

        def start(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
            return running.enter_context(_phase5(arguments, environment))

        yield start


@contextmanager
def _phase5(
    arguments: tuple[str, ...], environment: dict[str, str]
) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "pytest_phase5.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
