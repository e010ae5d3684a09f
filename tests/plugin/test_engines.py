"""Engines: started for the tests that ask, one group at a time, gone afterwards."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["pytester"]

USES = """
import pytest

def test_first(mlx_engine):
    assert mlx_engine.chat("hello") == "echo hello"

def test_second(mlx_engine):
    assert mlx_engine.status()["ready"]
    assert "phase5_streams_in_flight" in mlx_engine.metrics()
    assert mlx_engine.log.exists()
"""

HANGS = """
import pathlib, time

def test_hangs(mlx_engine):
    pathlib.Path("engine.pid").write_text(str(mlx_engine.pid))
    pathlib.Path("engine.pid").rename("pid")
    time.sleep(600)
"""

EVERY = 16


def await_true(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for a condition, and fail when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return not _exists(pid)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def words(project: Any) -> list[str]:
    return [" ".join(line[:2]) for line in project.journal]


def test_tests_of_one_flag_set_share_one_engine(project: Any) -> None:
    project.write(test_it=USES)
    project.run("--phase5-flags=off,all").assert_outcomes(passed=4)
    assert words(project) == ["start off", "stop off", "start all", "stop all"]


def test_every_flag_set_runs_one_after_the_other(project: Any) -> None:
    project.write(test_it="def test_it(mlx_engine): pass")
    project.run("--phase5-flags=every").assert_outcomes(passed=EVERY)
    lines = words(project)
    starts, stops = lines[::2], lines[1::2]
    assert len(starts) == len(set(starts)) == EVERY
    assert [line.replace("start", "stop") for line in starts] == stops


def test_marker_names_flag_sets_and_model(project: Any) -> None:
    project.write(
        test_it=(
            "import pytest\n@pytest.mark.flag_set('all', 'ttft_pipeline', model='tiny')\n"
            "def test_it(mlx_engine): assert mlx_engine.identity.model == 'tiny'"
        )
    )
    project.run("-v").stdout.fnmatch_lines(["*test_it[[]all]*", "*test_it[[]ttft_pipeline]*"])


def test_option_overrides_the_model_of_the_marker(project: Any) -> None:
    project.write(
        test_it=(
            "import pytest\n@pytest.mark.flag_set(model='tiny')\n"
            "def test_it(mlx_engine): assert mlx_engine.identity.model == 'mine'"
        )
    )
    project.run("--phase5-model=mine").assert_outcomes(passed=1)


def test_names_and_model_may_come_from_different_marks(project: Any) -> None:
    project.write(
        test_it=(
            "import pytest\npytestmark = pytest.mark.flag_set(model='tiny')\n"
            "@pytest.mark.flag_set('all')\n"
            "def test_it(mlx_engine):\n"
            "    assert (mlx_engine.flag_set, mlx_engine.identity.model) == ('all', 'tiny')"
        )
    )
    project.run().assert_outcomes(passed=1)


def test_pair_runs_treatment_and_control_side_by_side(project: Any) -> None:
    project.write(
        test_it=(
            "def test_it(engine_pair):\n"
            "    treatment, control = engine_pair\n"
            "    assert treatment.status()['ready'] and control.status()['ready']\n"
            "    assert control.flag_set == 'off' != treatment.flag_set\n"
        )
    )
    project.run("--phase5-flags=off,ttft_pipeline,all").assert_outcomes(passed=2)
    assert words(project)[:2] == ["start ttft_pipeline", "start off"]


def test_pair_without_a_named_treatment_compares_all(project: Any) -> None:
    project.write(
        test_it="def test_it(engine_pair): assert engine_pair.treatment.flag_set == 'all'"
    )
    project.run().assert_outcomes(passed=1)


def test_nobody_runs_beside_a_pair(project: Any) -> None:
    project.write(
        test_it="def test_a(mlx_engine): pass\ndef test_b(engine_pair): pass\n"
        "def test_c(mlx_engine): pass\n"
    )
    project.run("-p", "no:randomly").assert_outcomes(passed=3)
    running: set[str] = set()
    for word, flags, *_ in project.journal:
        (running.add if word == "start" else running.discard)(flags)
        assert len(running) <= 2
    assert not running


def test_factory_starts_and_stops_inside_a_test(project: Any) -> None:
    project.write(
        test_it=(
            "def test_it(engines):\n"
            "    with engines.start('all', model='tiny') as engine:\n"
            "        assert engine.identity.model == 'tiny'\n"
            "    with engines.start('off') as engine:\n"
            "        assert engine.flag_set == 'off'\n"
        )
    )
    project.run().assert_outcomes(passed=1)
    assert words(project) == ["start all", "stop all", "start off", "stop off"]


FAULTS = {
    "start": ("errors", "did not start: exit status 3: the model folder /nowhere is missing"),
    "silent": ("errors", "was not ready after 0.5 s"),
    "flags": ("errors", "serves flags off, asked for all"),
    "exit": ("passed_then_error", "did not stop clean: exit status 5"),
    "orphan": ("passed_then_error", "left process"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_engine_that_misbehaves_fails_the_test_in_one_line(project: Any, fault: str) -> None:
    how, text = FAULTS[fault]
    project.write(test_it="def test_it(mlx_engine): pass")
    seconds = ["--phase5-start-seconds=0.5"] if fault == "silent" else []
    result = project.run("--phase5-flags=all", project.stub("--fault", fault), *seconds)
    result.assert_outcomes(errors=1, passed=int(how == "passed_then_error"))
    result.stdout.fnmatch_lines([f"*{text}*"])
    assert "Traceback" not in result.stdout.str()


def test_engine_that_dies_in_a_test_fails_that_test(project: Any) -> None:
    project.write(
        test_it=(
            "import os, pathlib, signal\n"
            "def test_kills(mlx_engine):\n"
            "    os.kill(mlx_engine.pid, signal.SIGKILL)\n"
            "    try:\n"
            "        while True: os.kill(mlx_engine.pid, 0)\n"
            "    except ProcessLookupError: pass\n"
            "def test_next(mlx_engine): assert mlx_engine.chat('on') == 'echo on'\n"
        )
    )
    result = project.run()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*had died: exit status 137*"])


def test_fixed_engine_serves_only_the_flags_that_it_reports(
    project: Any, stub_server: Callable[..., str]
) -> None:
    url = stub_server("--flags", "all")
    project.write(test_it="def test_it(mlx_engine): assert mlx_engine.pid is None")
    result = project.run(f"--phase5-engine-url={url}", "--phase5-flags=off,all")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*serves flags all, asked for off*"])


def test_hook_brings_an_engine_of_ones_own(
    project: Any, stub_server: Callable[..., str], pytester: pytest.Pytester
) -> None:
    url = stub_server()
    pytester.makeconftest(
        f"""
        from pathlib import Path
        from pytest_phase5.engines import RunningEngine

        def pytest_phase5_start_engine(flag_set, model):
            if flag_set == "off":
                return RunningEngine(url={url!r}, stop=lambda: Path("stopped").touch())
        """
    )
    project.write(
        test_it="def test_it(mlx_engine): assert (mlx_engine.pid is None) == "
        "(mlx_engine.flag_set == 'off')"
    )
    project.run("--phase5-flags=off,all").assert_outcomes(passed=2)
    assert (project.path / "stopped").exists()
    assert words(project) == ["start all", "stop all"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [[], ["-n1"]], ids=["alone", "xdist"])
def test_nothing_stays_when_pytest_is_ended(
    project: Any, number: signal.Signals, workers: list[str]
) -> None:
    project.write(test_it=HANGS)
    command = [sys.executable, "-m", "pytest", project.stub(), *workers]
    process = subprocess.Popen(command, cwd=project.path, stdout=subprocess.DEVNULL)
    try:
        await_true((project.path / "pid").exists)
        pid = int((project.path / "pid").read_text())
        process.send_signal(number)
        await_true(lambda: is_gone(pid))
    finally:
        process.kill()
        process.wait()


def test_leash_ends_a_program_that_ignores_being_asked(tmp_path: Path) -> None:
    stubborn = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()) + ' ')\n"
        "time.sleep(600)\n"
    )
    leash = subprocess.Popen(
        [sys.executable, "-P", "-m", "pytest_phase5.leash", sys.executable, "-c", stubborn],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    file = tmp_path / "pid"
    await_true(lambda: file.exists() and file.read_text().endswith(" "))
    assert leash.stdin is not None
    leash.stdin.close()
    assert leash.wait(60) != 0
    await_true(lambda: is_gone(int(file.read_text())))


@pytest.mark.parametrize(("code", "status"), [("raise SystemExit(7)", 7), ("", 0)])
def test_leash_hands_on_the_exit_status(code: str, status: int) -> None:
    command = [sys.executable, "-P", "-m", "pytest_phase5.leash", sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as leash:
        assert leash.wait(60) == status
