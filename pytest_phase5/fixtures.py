"""The fixtures: running engines, and a place to put evidence.

Engines are shared by tests that follow each other and ask for the same ones; pytest groups
such tests, so each flag set is started about once in a session.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from pytest_phase5.markers import EngineSpec, wanted_engines
from pytest_phase5.options import Settings, parse_flag_sets
from pytest_phase5.stash import SETTINGS

if TYPE_CHECKING:
    from pytest_phase5.breaking.fixture import Faults
    from pytest_phase5.engines import Engine
    from pytest_phase5.load.running import ProfileResult
    from pytest_phase5.pool import EnginePool
    from pytest_phase5.recording import Evidence

#: The hidden session-scoped parameter by which pytest groups tests that share engines.
SPEC_FIXTURE: Final = "_phase5_engine_spec"

#: The flag set of a control.
CONTROL: Final = "off"


class EnginePair(NamedTuple):
    """Two engines that run side by side, for measuring interleaved inside one test."""

    treatment: "Engine"
    control: "Engine"


class Engines:
    """Starts engines for the length of a block.

    Args:
        pool: what starts and stops them.
        model: what they serve unless told otherwise; None leaves it to the configuration.
    """

    def __init__(self, pool: "EnginePool", model: str | None) -> None:
        self.pool = pool
        self.model = model

    @contextmanager
    def start(self, flag_set: str, model: str | None = None) -> Iterator["Engine"]:
        """Start one engine and stop it, checked, at the end of the block.

        `model` defaults to the test's. Fails the test when the engine does not start or stop
        clean.
        """
        (name,) = parse_flag_sets(flag_set, "engines.start")
        with self.pool.another(EngineSpec(name, model or self.model)) as engine:
            yield engine


@pytest.fixture(scope="session", name=SPEC_FIXTURE)
def engine_spec(request: pytest.FixtureRequest) -> EngineSpec:
    """The engine that a test was parametrised with. Internal: tests share engines by it."""
    spec: EngineSpec = request.param
    return spec


@pytest.fixture
def mlx_engine(request: pytest.FixtureRequest, _phase5_engine_spec: EngineSpec) -> "Engine":
    """An engine for each flag set of the `flag_set` marker or of `--phase5-flags`."""
    (engine,) = _running(request, _phase5_engine_spec)
    return engine


@pytest.fixture
def engine_pair(request: pytest.FixtureRequest, _phase5_engine_spec: EngineSpec) -> EnginePair:
    """An engine for each flag set but `off`, and beside it a control with all flags off."""
    control = EngineSpec(CONTROL, _phase5_engine_spec.model)
    return EnginePair(*_running(request, _phase5_engine_spec, control))


@pytest.fixture
def engines(request: pytest.FixtureRequest) -> Engines:
    """A factory: `with engines.start("all", model="tiny") as engine: ...`."""
    from pytest_phase5.recording import pool_of

    settings = request.config.stash[SETTINGS]
    return Engines(pool_of(request), _model(settings, request.node))


@pytest.fixture
def evidence(request: pytest.FixtureRequest) -> "Evidence":
    """Where a test puts its samples and checks. Written out however the test ends."""
    from pytest_phase5.recording import evidence_of, run_of

    run_of(request)
    return evidence_of(request.node)


@pytest.fixture
def load(
    request: pytest.FixtureRequest, mlx_engine: "Engine", evidence: "Evidence", tmp_path: Path
) -> "Callable[[], ProfileResult]":
    """Runs the profile of the `load` marker against the engine; samples become evidence."""
    from pytest_phase5.pressing import presser

    return presser(request, mlx_engine, evidence, tmp_path / "load")


@pytest.fixture
def faults(request: pytest.FixtureRequest, evidence: "Evidence") -> "Iterator[Faults]":
    """Breaks things and puts them back: `faults.run()` is the experiment of the `chaos` marker."""
    from pytest_phase5.breaking.fixture import Faults

    has_engine = "mlx_engine" in request.fixturenames
    given = Faults(request, evidence, request.getfixturevalue("mlx_engine") if has_engine else None)
    try:
        yield given
    finally:
        given.close()


def parametrize_engines(metafunc: pytest.Metafunc, settings: Settings) -> None:
    """Give a test that uses an engine fixture one parameter for each flag set."""
    if SPEC_FIXTURE not in metafunc.fixturenames:
        return
    wanted = wanted_engines(metafunc.definition)
    names = wanted.names or settings.flag_sets
    if "engine_pair" in metafunc.fixturenames:
        # `off` is the control. A run without any treatment compares the set of all flags.
        names = tuple(name for name in names if name != CONTROL) or ("all",)
    model = _model(settings, metafunc.definition)
    specs = [EngineSpec(name, model) for name in names]
    metafunc.parametrize(SPEC_FIXTURE, specs, indirect=True, ids=list(names), scope="session")


def wanted_specs(item: pytest.Item | None) -> frozenset[EngineSpec]:
    """The engines that an item's fixtures run, by its parameter."""
    callspec = getattr(item, "callspec", None)
    spec: EngineSpec | None = callspec.params.get(SPEC_FIXTURE) if callspec else None
    if item is None or spec is None:
        return frozenset()
    paired = "engine_pair" in getattr(item, "fixturenames", ())
    return frozenset({spec, EngineSpec(CONTROL, spec.model)} if paired else {spec})


def _model(settings: Settings, node: pytest.Item | pytest.Collector) -> str | None:
    return settings.model or wanted_engines(node).model


def _running(request: pytest.FixtureRequest, *specs: EngineSpec) -> "tuple[Engine, ...]":
    from pytest_phase5.engines import EngineError
    from pytest_phase5.recording import pool_of

    try:
        return pool_of(request).group(*specs)
    except EngineError as error:
        pytest.fail(str(error), pytrace=False)
