"""A flag that is moved by the commands on a real engine: up by a verdict, and back at once."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from made_up_gate import judged
from served import Served, serving
from typer.testing import CliRunner

from engine.config import load_config
from pytest_phase5.cli import app

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/unit/gates"))

from moving_world import FLAG  # noqa: E402 - found there

BENCH = ROOT / "tests" / "performance" / "bench_rollback_command.py"
RUNS = "20" if os.environ.get("PHASE5_FULL") else "2"


@dataclass
class Moves:
    """An engine, and the configuration that is its store."""

    served: Served
    config: Path

    def phase5(self, *arguments: str) -> tuple[int, Any]:
        """A command's exit status and its one object; here, where all of it is loaded."""
        done = CliRunner().invoke(app, [*arguments, "--config", str(self.config), "--json"])
        return done.exit_code, json.loads(done.stdout)

    def flag(self) -> dict[str, Any]:
        """The flag as the engine serves it."""
        document: Any = self.served.status()
        flag: dict[str, Any] = document["flags"][FLAG]
        return flag

    def judged(self, folder: Path) -> str:
        """A verdict into canary for what this engine is; the numbers are made up."""
        return str(judged(folder, self.config, self.served.status()))


@pytest.fixture
def moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Moves]:
    """An engine that follows its configuration, at a build that is known."""
    monkeypatch.setenv("PHASE5_COMMIT", "c0ffee")
    with serving(tmp_path, flags=None) as served:
        config = tmp_path / "runtime.yaml"
        config.write_text(f"generation: 0\nrollout: {{engines: [{served.url}]}}\n", "utf-8")
        assert load_config(config).rollout.engines == (served.url,)
        yield Moves(served, config)


def test_up_by_a_verdict_back_at_once_and_up_again_only_when_a_person_lets_it(
    moves: Moves, tmp_path: Path
) -> None:
    move = ("promote", "--flag", FLAG, "--verdict")
    status, said = moves.phase5(*move, moves.judged(tmp_path / "first"))
    assert (status, said["refused"]) == (0, None), said
    assert said["engines"][moves.served.url] == {"taken": True, "reason": None}
    assert (moves.flag()["effective"], moves.flag()["stage"]) == (1.0, "canary")

    status, said = moves.phase5("status")
    assert (status, said["problems"]) == (0, [])

    status, said = moves.phase5("rollback", "--reason", "a test")
    assert (status, said["confirmed"], said["store"]["error"]) == (0, True, None)
    assert said["engines"][moves.served.url]["left_behind"] is None
    flag = moves.flag()
    assert (flag["effective"], flag["braked"], flag["cause"]) == (0.0, True, "manual")

    again = moves.judged(tmp_path / "again")
    status, said = moves.phase5(*move, again)
    assert (status, said["refused"]["field"]) == (1, "rollout")
    barred = moves.phase5("status")[1]["flags"][FLAG]["tombstones"]
    clear = ("resume", "--flag", FLAG, "--reason", "it was a test", "--clear", *barred)
    assert moves.phase5(*clear)[0] == 0
    assert moves.phase5(*move, again)[0] == 0
    assert (moves.flag()["effective"], moves.flag()["braked"]) == (1.0, False)


def test_a_rollback_beside_75_streams_is_confirmed_and_loses_none() -> None:
    command = [sys.executable, str(BENCH), "--runs", RUNS, "--streams", "75", "--engines", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 lost" in done.stdout
