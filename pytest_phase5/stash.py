"""What a session keeps, and under which keys. Light: every suite of an environment imports it."""

import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from pytest_phase5.options import Settings

if TYPE_CHECKING:
    from pytest_phase5.planning import Plan
    from pytest_phase5.pool import EnginePool
    from pytest_phase5.recording import Run

#: Key under which the controller of pytest-xdist hands the run to its workers.
WORKER_INPUT: Final = "phase5"

SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()
RUN: "pytest.StashKey[Run]" = pytest.StashKey()
PLAN: "pytest.StashKey[Plan]" = pytest.StashKey()
POOL: "pytest.StashKey[EnginePool]" = pytest.StashKey()


def worker_input(config: pytest.Config) -> dict[str, Any] | None:
    """What the controller of pytest-xdist handed to this worker; None in any other process."""
    given: dict[str, Any] | None = getattr(config, "workerinput", None)
    return given


def stop_engines(config: pytest.Config) -> None:
    """Stop whatever runs at the end of a session: a test that was cut has left its engines."""
    pool = config.stash.get(POOL, None)
    if pool is None:
        return
    from pytest_phase5.engines import EngineError

    try:
        pool.stop_group()
    except EngineError as error:  # no test is left that could fail
        sys.stderr.write(f"phase5: {error}\n")
