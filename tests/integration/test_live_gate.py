"""A gate out of a stage, judged on what a real Prometheus remembers of live traffic."""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from monitored import prometheus, put_in
from told_engine import FLAG, OFF, ON, ToldEngine

from engine.config import load_config
from gates.cli import DONE, verify
from gates.ledger_file import read
from gates.stages import Transition
from pytest_phase5.live import gather_live

ROOT = Path(__file__).resolve().parents[2]
GUILTY = "qos_monitoring"
STUB = ROOT / "tests" / "plugin" / "stub_engine.py"
MINUTES = 15

POLICY = """
criteria:
  answers: {kind: invariant, measure: checks}
  soak: {kind: invariant, measure: soak, source: live}
  live_crashes: {kind: invariant, measure: crashes, source: live, critical: true}
  live_error_rate:
    {kind: ceiling, measure: error_rate, source: live, limit: 0.1 %, critical: true,
     attribution: true}
stages:
  canary: {percentage: 20, soak_hours: 0.2, leave: [answers, soak, live_crashes, live_error_rate]}
  early: {percentage: 30, soak_hours: 1}
  mid: {percentage: 50, soak_hours: 1}
  full: {percentage: 100, soak_hours: 0}
"""

ITEMS = """
import pytest

@pytest.mark.slo("answers")
def test_answers(mlx_engine, evidence):
    evidence.serves(mlx_engine)
    evidence.check("answers", mlx_engine.chat("hello") == "echo hello")
"""


def project(folder: Path, entered: float) -> Path:
    """A project of which two flags entered canary at a time."""
    (folder / "config").mkdir(parents=True)
    stamp = datetime.fromtimestamp(entered, UTC).isoformat()
    share = "enabled: true, rollout_percentage: 20"
    state = f"{{{share}, stage: canary, epoch: 3, entered_at: '{stamp}'}}"
    (folder / "config" / "runtime.yaml").write_text(
        f"generation: 3\nphase4_rollout:\n  {FLAG}: {state}\n  {GUILTY}: {state}\n"
    )
    (folder / "config" / "gates.yaml").write_text(POLICY)
    (folder / "test_it.py").write_text(ITEMS)
    return folder


def traffic(data: Path, now: float) -> float:
    """Some minutes up to now, in which one flag fails; when they began."""
    minute = int(now // 60) - MINUTES
    engine = ToldEngine(config="c" * 64, wall=minute * 60.0)
    scrapes = []
    for number in range(minute, int(now // 60) + 1):
        scrapes.append(engine.scrape(number))
        engine.wall = number * 60.0 + 30
        engine.serve(ON, 320, key=f"on{number}")
        engine.serve(frozenset({GUILTY}), 300, key=f"qos{number}")
        engine.serve(frozenset({GUILTY}), 20, "failed", key=f"bad{number}")
        engine.serve(OFF, 960, key=f"off{number}")
    put_in(data, scrapes)
    return minute * 60.0 - 30


def gate(folder: Path, url: str) -> tuple[int, dict[str, Any]]:
    """A session at the door out of canary: its status and verdict."""
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:locust"),
        *("-o", "phase5_suite=false", "--phase5-gate=canary", f"--phase5-flags={FLAG},{GUILTY}"),
        f"--phase5-prometheus={url}",
        "--phase5-config=config/runtime.yaml",
        f"--phase5-engine-command={sys.executable} {STUB} --journal journal",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    path = folder / "phase5-report" / "verdict.json"
    assert path.exists(), done.stdout + done.stderr
    return done.returncode, json.loads(path.read_text())


def test_flags_leave_canary_by_what_prometheus_remembers(tmp_path: Path) -> None:
    entered = traffic(tmp_path / "data", time.time())
    folder = project(tmp_path / "project", entered)
    with prometheus(tmp_path / "data") as url:
        status, verdict = gate(folder, url)
    assert verdict["flags"] == {FLAG: "promote", GUILTY: "rollback"}, verdict["criteria"]
    assert (status, verdict["verdict"]) == (1, "rollback")
    for flag in (FLAG, GUILTY):
        ledger = read(folder / "phase5-report" / "ledger" / f"{flag}-3.jsonl")
        assert len(ledger.rows) >= MINUTES - 2
        assert not any(row.invalid for row in ledger.rows)
        assert f"ledger/{flag}-3.jsonl" in {file["file"] for file in verdict["evidence"]}
    config = folder / "config" / "runtime.yaml"
    assert verify(folder / "phase5-report" / "verdict.json", config=config) == DONE


def test_without_live_evidence_a_gate_holds_and_says_why(tmp_path: Path) -> None:
    folder = project(tmp_path / "project", time.time() - 3600)
    status, verdict = gate(folder, "http://127.0.0.1:9")
    assert (status, verdict["verdict"]) == (1, "hold")
    reasons = [row["reason"] for row in verdict["criteria"]]
    assert any("live evidence objects: prometheus http://127.0.0.1:9: " in r for r in reasons)
    assert any("no ledger of " in r for r in reasons)


def test_a_prometheus_that_knows_no_engine_brings_no_ledger(tmp_path: Path) -> None:
    folder = project(tmp_path / "project", time.time() - 3600)
    config = load_config(folder / "config" / "runtime.yaml")
    steps = {FLAG: Transition("canary", "early"), "http2_transport": Transition("off", "canary")}
    (tmp_path / "data").mkdir()
    with prometheus(tmp_path / "data") as url:
        without = gather_live(tmp_path / "report", url, config, steps)
    assert set(without) == {FLAG}
    assert without[FLAG].endswith("no engine told")
    assert not list((tmp_path / "report").rglob("*.jsonl"))
