"""Engines of this project, and what goes wrong around its tests when a case asks for it."""

import os
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_phase5 import judging, recording
from pytest_phase5.engines import RunningEngine

CASE = os.environ.get("SLO_CASE", "good")


@pytest.hookimpl
def pytest_phase5_start_engine(flag_set: str) -> RunningEngine:
    """The engine that the gate measures runs already, and serves this set."""
    return RunningEngine(url=os.environ[f"SLO_ENGINE_{flag_set}"])


def pytest_unconfigure(config: pytest.Config) -> None:
    """A disk that keeps half of what was written."""
    if CASE == "bad-json":
        path = Path(config.getoption("phase5_report")) / "verdict.json"
        path.write_text('{"schema": "phase5.verdict/1", "ver', "utf-8")


class Earlier(datetime):
    """The clock of a machine on which all this happened two hours ago."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override] - a plain one
        """Two hours ago."""
        return datetime.now(tz) - timedelta(hours=2)


if CASE == "old":
    recording.dt = SimpleNamespace(datetime=Earlier, UTC=UTC)  # type: ignore[assignment] - as much as it uses
    judging.datetime = Earlier  # type: ignore[misc] - as above
