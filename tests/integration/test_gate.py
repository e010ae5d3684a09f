"""Gates on real engines: spoiled ones never promote, and an ended session leaves nothing."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAULTY = ROOT / "tests" / "engines" / "faulty.py"
GATE = ("-m", "pytest", "-p", "no:asyncio", "-p", "no:locust", "--phase5-gate=canary")
#: How long to wait for what must happen; a bound against hanging, not a measurement.
PATIENCE = 60.0


def project(folder: Path, *criteria: str) -> Path:
    """A project whose door to canary demands these criteria, at the packaged thresholds."""
    config = folder / "config"
    config.mkdir()
    (config / "runtime.yaml").write_bytes((ROOT / "config" / "runtime.yaml").read_bytes())
    packaged = (ROOT / "config" / "gates.yaml").read_text(encoding="utf-8")
    demanded = f"enter: [{', '.join(criteria)}]"
    policy, changed = re.subn(r"enter: \[[a-z0-9_, ]+\]", demanded, packaged)
    assert changed == 1
    (config / "gates.yaml").write_text(policy, encoding="utf-8")
    return folder


def run_gate(folder: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """A gated session; returns its exit status, its verdict and its output."""
    command = [sys.executable, *GATE, "--phase5-from=off", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    verdict = folder / "phase5-report" / "verdict.json"
    assert verdict.exists(), output
    return done.returncode, json.loads(verdict.read_text(encoding="utf-8")), output


#: Each takes most of a minute: a run of errors and a slow one always, the others unscaled.
FAULTS = [
    ("errors=0.02", "error_rate", "rollback", "every"),
    ("ttft=2", "ttft_p95_vs_control", "hold", "ttft_pipeline"),
]
if os.environ.get("PHASE5_FULL"):
    FAULTS += [
        ("none", "error_rate", "promote", "every"),
        ("ttft=2", "ttft_p95_vs_control", "hold", "every"),
        ("cut=0.02", "no_lost_stream", "rollback", "every"),
    ]


@pytest.mark.parametrize(("fault", "criterion", "expected", "flags"), FAULTS)
def test_a_spoiled_engine_never_promotes(
    fault: str, criterion: str, expected: str, flags: str, tmp_path: Path
) -> None:
    command = f"{sys.executable} {FAULTY} --fault {fault}"
    folder = project(tmp_path, criterion, "tests_green")
    status, verdict, output = run_gate(
        folder,
        f"--phase5-engine-command={command}",
        f"--phase5-flags={flags}",
        "--phase5-model=tiny",
    )
    (found,) = [row for row in verdict["criteria"] if row["id"] == criterion]
    assert found["outcome"] == ("pass" if fault == "none" else "fail"), output
    assert verdict["verdict"] == expected, output
    assert status == (0 if expected == "promote" else 1), output


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_ended_session_leaves_no_process_and_no_promotion(end: int, tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    folder = project(tmp_path, "flag_sets_start")
    session = subprocess.Popen(
        [sys.executable, *GATE, "--phase5-from=off", "--phase5-model=tiny"],
        cwd=folder,
        env={**os.environ, "PHASE5_TEST_MARK": mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: len(marked(mark)) >= 3)  # pytest, the engine, its runtime
    session.send_signal(end)
    session.wait(PATIENCE)
    wait_until(lambda: not marked(mark))
    assert session.returncode != 0
    verdict = folder / "phase5-report" / "verdict.json"
    assert not verdict.exists() or json.loads(verdict.read_text())["verdict"] != "promote"
    assert not list(folder.rglob("*.partial"))


def marked(mark: str) -> set[int]:
    """The processes whose environment carries a mark: a session and all that it started."""
    wanted = f"PHASE5_TEST_MARK={mark}".encode()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


def wait_until(condition: Any) -> None:
    """Poll a condition; fail when it does not come true in a generous time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
