"""Engines of this project, and what goes wrong around its tests when a case asks for it."""

import os
from pathlib import Path

import pytest

from pytest_phase5.engines import RunningEngine

CASE = os.environ.get("SLO_CASE", "good")


@pytest.hookimpl
def pytest_phase5_start_engine(flag_set: str) -> RunningEngine:
    """The engine that the gate measures runs already, and serves this set."""
    return RunningEngine(url=os.environ[f"SLO_ENGINE_{flag_set}"])


def pytest_unconfigure(config: pytest.Config) -> None:
    """A disk that keeps half of what was written."""
    if CASE == "bad-json":
        report = Path(config.getoption("phase5_report"))
        (report / "verdict.json").write_text('{"schema": "phase5.verdict/1", "ver', "utf-8")
