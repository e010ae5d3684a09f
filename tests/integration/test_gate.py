"""A gated session that is ended from outside leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from gating import GATE, project

pytestmark = pytest.mark.alone

#: How long to wait for what must happen; a bound against hanging, not a measurement.
PATIENCE = 60.0


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
