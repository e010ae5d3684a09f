"""A load profile inside a test: against the test's engine, with its samples as evidence."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_phase5.doors import policy_of
from pytest_phase5.engines import Engine
from pytest_phase5.load.building import Setting
from pytest_phase5.load.profiles import Part, profile_named
from pytest_phase5.load.progress import Progress
from pytest_phase5.load.running import ProfileResult, Runner
from pytest_phase5.load.showing import Lines
from pytest_phase5.markers import EngineSpec
from pytest_phase5.markers import load as load_mark
from pytest_phase5.recording import Evidence, pool_of
from pytest_phase5.stash import SETTINGS


def presser(
    request: pytest.FixtureRequest, engine: Engine, evidence: Evidence, folder: Path
) -> Callable[[], ProfileResult]:
    """A function that runs the profile of the test's `load` marker and records what it brought.

    Parts that need other flags than the test's engine has get one of their own beside it.

    Raises:
        UsageError: the test has no profile, or more than one.
    """
    mark = request.node.get_closest_marker("load")
    if mark is None or not mark.args:
        raise pytest.UsageError(
            f"{request.node.nodeid}: fixture 'load' without a profile; "
            "allowed: @pytest.mark.load(PROFILE)"
        )
    profile = profile_named(load_mark(*mark.args, **mark.kwargs))
    settings = request.config.stash[SETTINGS]
    runner = Runner(
        engine_for=_Engines(request, engine),
        folder=folder,
        flags=engine.flag_set,
        fixed=settings.engine_url is not None,
        on_progress=_progress(request.config),
    )
    setting = Setting(
        url=engine.url,
        time_scale=settings.time_scale,
        expected_load=policy_of(settings).expected_load,
    )

    def press() -> ProfileResult:
        result = runner.run(profile, setting)
        evidence.record_profile(result)
        if not result.complete:
            raise KeyboardInterrupt  # it was taken by the run, which has kept what there was
        return result

    return press


@dataclass(frozen=True, slots=True)
class _Engines:
    """The test's own engine, or another beside it."""

    request: pytest.FixtureRequest
    engine: Engine

    def __call__(self, flags: str) -> AbstractContextManager[Engine]:
        if flags == self.engine.flag_set:
            return nullcontext(self.engine)
        settings = self.request.config.stash[SETTINGS]
        spec = EngineSpec(flags, settings.model or self.engine.identity.model)
        return pool_of(self.request).another(spec)


def _progress(config: pytest.Config) -> Callable[[Part, Progress], None] | None:
    """A line now and then past pytest's capture; none in a worker, which has no terminal."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return None

    def write(line: str) -> None:
        with _uncaptured(config):
            reporter.ensure_newline()
            reporter.write_line(line.rstrip())

    return Lines(write)


@contextmanager
def _uncaptured(config: pytest.Config) -> Iterator[None]:
    manager = config.pluginmanager.get_plugin("capturemanager")
    with manager.global_and_fixture_disabled() if manager else nullcontext():
        yield
