"""Hooks for teams that bring their own engines, criteria or evidence.

A conftest that must also work without this plugin marks its implementation with
`@pytest.hookimpl(optionalhook=True)`. There is deliberately no hook that decides: what
others add can turn a verdict from green to red, never the other way.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_phase5.engines import RunningEngine


@pytest.hookspec(firstresult=True)
def pytest_phase5_start_engine(flag_set: str, model: str | None) -> "RunningEngine | None":
    """Start an engine of your own.

    Args:
        flag_set: the flags that must be on: `off`, `all`, or names joined by `+`.
        model: the model that the test asks for; None leaves the choice to the engine.

    Returns:
        A `pytest_phase5.engines.RunningEngine` that already answers, or None to let the
        plugin start its own.
    """


@pytest.hookspec
def pytest_phase5_criteria(config: pytest.Config) -> Iterable[str]:  # type: ignore[empty-body]  # a specification has no body
    """Ids of further criteria that the judged door requires.

    They must stand in `gates.yaml`; an id that the door does not list is required all the
    same.
    """


@pytest.hookspec
def pytest_phase5_evidence(config: pytest.Config, criterion: str) -> Iterable[Path]:  # type: ignore[empty-body]  # a specification has no body
    """Evidence for a criterion: as `--phase5-evidence` takes it, and by the same rules.

    Files that `gates.evidence.write_measurement` wrote, JUnit reports, or the report folder of
    another gated session or load run. Called once for each criterion of the judged door, after
    the last test.
    """


@pytest.hookspec
def pytest_phase5_verdict(verdict: Any) -> str | None:
    """Hear the verdict of a gated session, before it is written.

    Args:
        verdict: a `gates.verdict.Verdict`.

    Returns:
        A reason to object, which makes the verdict a hold at best and is written with it; or
        None. Nothing that is returned makes a verdict better.
    """
