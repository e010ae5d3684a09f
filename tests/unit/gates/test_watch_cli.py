"""`phase5 watch` as a program, on engines that only answer."""

import json
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine, running
from prometheus_client.parser import text_string_to_metric_families

from engine.config import load_config
from gates.guarding.cli import Options, watch

WATCH = (sys.executable, "-P", "-m", "pytest_phase5.cli", "watch")
PATIENCE = 60.0
FLAG = "ttft_pipeline"


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with ExitStack() as stack:
        yield stack.enter_context(running(FakeEngine(generation=1)))


def config(folder: Path, engine: FakeEngine, stage: str = "off") -> Path:
    path = folder / "runtime.yaml"
    share = {"off": 0, "early": 10}[stage]
    state = {
        "enabled": bool(share),
        "rollout_percentage": share,
        "stage": stage,
        "epoch": 1,
        "entered_at": "2026-01-01T00:00:00+00:00",
    }
    document = {"generation": 1, "rollout": {"engines": [engine.url]}, "phase4_rollout": {}}
    document["phase4_rollout"] = {FLAG: state}
    path.write_text(json.dumps(document))
    engine.shares = {FLAG: float(share)}
    return path


Once = Callable[[Path], tuple[int, Any]]


@pytest.fixture
def once(capsys: pytest.CaptureFixture[str]) -> Once:
    """One look: the exit status, and the one object."""

    def look(path: Path) -> tuple[int, Any]:
        status = watch(Options(config=path, once=True, as_json=True))
        return status, json.loads(capsys.readouterr().out)

    return look


def test_one_look_at_a_rollout_that_is_off_has_nothing_to_do(
    tmp_path: Path, engine: FakeEngine, once: Once
) -> None:
    code, said = once(config(tmp_path, engine))
    assert (code, said["status"], said["concerns"], said["rollbacks"]) == (0, 0, [], [])
    assert said["generation"] == 1


def test_one_look_without_evidence_holds_and_says_why(
    tmp_path: Path, engine: FakeEngine, once: Once
) -> None:
    code, said = once(config(tmp_path, engine, "early"))
    assert code == 10
    assert any("no valid minute" in text for text in said["concerns"])


def test_one_look_that_finds_a_brake_rolls_back(
    tmp_path: Path, engine: FakeEngine, once: Once
) -> None:
    path = config(tmp_path, engine, "early")
    engine.brakes = {FLAG: "by-hand"}
    code, _ = once(path)
    assert code == 20
    assert load_config(path).phase4_rollout.flag(FLAG).stage == "off"


def test_a_configuration_that_cannot_serve_is_a_usage_error(
    tmp_path: Path, engine: FakeEngine, once: Once
) -> None:
    path = config(tmp_path, engine)
    path.write_text("rollout: {engines: 7}")
    code, said = once(path)
    assert code == 2
    assert "rollout.engines" in said["error"]


def test_it_runs_until_it_is_told_to_stop_and_has_metrics_of_its_own(
    tmp_path: Path, engine: FakeEngine, once: Once
) -> None:
    path = config(tmp_path, engine)
    command = [*WATCH, "--config", str(path), "--poll-seconds", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as it:
        assert it.stdout is not None
        assert it.stderr is not None
        try:
            assert select.select([it.stdout], [], [], PATIENCE)[0]
            word, url = it.stdout.readline().split()
            assert word == "ready"
            heartbeat = path.with_name("runtime.yaml.state") / "guard" / "heartbeat.json"
            deadline = time.monotonic() + PATIENCE
            while not heartbeat.exists():
                assert time.monotonic() < deadline, "no poll ended"
                time.sleep(0.05)
            names = {
                family.name
                for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
            }
            assert {"phase5_guard_polls", "phase5_guard_last_poll_timestamp_seconds"} <= names
            code, said = once(path)  # the folder has its guard
            assert code == 1
            assert f"process {it.pid}" in said["error"]
        finally:
            it.send_signal(signal.SIGTERM)
        assert it.wait(PATIENCE) == 0
        assert "Traceback" not in it.stderr.read()


def test_the_stores_engines_count_where_it_names_some(
    tmp_path: Path, engine: FakeEngine, once: Once
) -> None:
    """Whoever watches a branch has a copy of its configuration, maybe an old one."""
    config(tmp_path, engine)
    own = tmp_path / "own" / "runtime.yaml"
    own.parent.mkdir()
    own.write_text(f"rollout: {{store: 'file:{tmp_path / 'runtime.yaml'}', engines: []}}\n")
    code, said = once(own)
    assert code == 0
    assert list(said["engines"]) == [engine.url]
