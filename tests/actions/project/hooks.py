"""Engines of this project, and what goes wrong around its tests when a case asks for it."""

import json
import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pytest_phase5.engines import RunningEngine

CASE = os.environ.get("SLO_CASE", "good")


@pytest.hookimpl
def pytest_phase5_start_engine(flag_set: str) -> RunningEngine:
    """The engine that the gate measures runs already, and serves this set."""
    return RunningEngine(url=os.environ[f"SLO_ENGINE_{flag_set}"])


def pytest_unconfigure(config: pytest.Config) -> None:
    """A disk that keeps half of what was written; a verdict that lay about for two hours."""
    path = Path(config.getoption("phase5_report")) / "verdict.json"
    if CASE == "bad-json":
        path.write_text('{"schema": "phase5.verdict/1", "ver', "utf-8")
    if CASE == "old":
        verdict = json.loads(path.read_text("utf-8"))
        for key in ("created", "expires"):
            earlier = datetime.fromisoformat(verdict[key]) - timedelta(hours=2)
            verdict[key] = earlier.isoformat()
        path.write_text(json.dumps(verdict, sort_keys=True, indent=1) + "\n", "utf-8")
