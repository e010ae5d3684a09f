"""Locust as a driver, against the calibrated stub: it counts and stops as the generator does.

A start of Locust costs a second or two, so each test asks several things of one run.
"""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from gates.samples import Outcome, Sample
from pytest_phase5.load.checks import read_report
from pytest_phase5.load.driver import LOG_FILE, LoadResult, read_run, run_plan
from pytest_phase5.load.locust_driver.command import INTERPRETER_VARIABLE
from pytest_phase5.load.locust_driver.tree import OUTPUT
from pytest_phase5.load.plan import Block, Fleet, LeaveAfter, Plan, Request
from pytest_phase5.load.plan_file import write_plan
from pytest_phase5.load.plans import open_loop, streams
from pytest_phase5.load.shaped import replayed
from pytest_phase5.load.stub_process import StubProcess, running_stub
from pytest_phase5.load.workload import SHORT, Workload, requests

DRIVER = [sys.executable, "-P", "-m", "pytest_phase5.load.locust_driver"]
#: Lag that tests of other things allow, so that a noisy machine cannot fail them.
ANY_LAG = 10.0
NO_END = "ended without a finish reason"
ENDS: dict[str, tuple[Outcome, str | None]] = {
    "ok": (Outcome.OK, None),
    "cut": (Outcome.CUT, NO_END),
    "reset": (Outcome.CUT, "IncompleteRead"),
    "no-done": (Outcome.CUT, "ended without [DONE]"),
    "repeated": (Outcome.FAILED, "event repeated: number 4 after 4"),
    "error-event": (Outcome.FAILED, "error event: engine_error"),
    "hang": (Outcome.FAILED, "timeout"),
    "unavailable": (Outcome.SHED, "http 503"),
    "status-404": (Outcome.REJECTED, "http 404"),
    "status-429": (Outcome.SHED, "http 429"),
    "status-500": (Outcome.FAILED, "http 500"),
    "status-503": (Outcome.FAILED, "http 503"),
}
LEAVERS: dict[str, tuple[LeaveAfter, Outcome, str | None]] = {
    "early": (LeaveAfter(tokens=3), Outcome.CANCELLED, "left after 3 tokens"),
    "patient": (LeaveAfter(tokens=9), Outcome.OK, None),  # it had only eight
    "hasty": (LeaveAfter(seconds=0.01), Outcome.CANCELLED, "left after 0.01 s"),
}


def asked(*kinds: str, **changes: Any) -> tuple[Request, ...]:
    made = requests(Workload(name="ends", words=(3, 3), tokens=(8, 8)), len(kinds), 1)
    return tuple(
        replace(request, body={**request.body, "model": kind}, kind=kind, **changes)
        for request, kind in zip(made, kinds, strict=True)
    )


def a_plan(url: str, kind: str, **changes: Any) -> Plan:
    options: dict[str, Any] = {"rate": 50, "requests": 10, "warmup": 2, "lag_limit": ANY_LAG}
    options |= {"schedule": "constant", "seed": 3, "driver": "locust"}
    fleet = changes.pop("fleet", Fleet())
    plan = open_loop(url, workload=replace(SHORT, model=kind), **options | changes)
    return replace(plan, fleet=fleet)


def entries(folder: Path, method: str) -> list[dict[str, Any]]:
    stats = json.loads((folder / "locust" / "stats.json").read_text(encoding="utf-8"))
    return [entry for entry in stats if entry["method"] == method]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about in 30 s"
        time.sleep(0.01)


def gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def locusts(parent: int) -> list[psutil.Process]:
    """Locust's processes below one of ours, the first of them first."""
    below = psutil.Process(parent).children(recursive=True)
    return [process for process in below if "locust" in process.cmdline()]


def test_each_ending_counts_as_documented_and_locust_counts_the_same(
    stub: StubProcess, tmp_path: Path
) -> None:
    leavers = tuple(
        replace(
            asked("hang" if name == "hasty" else "ok")[0], key=name, kind=name, leave_after=when
        )
        for name, (when, _, _) in LEAVERS.items()
    )
    given = asked(*ENDS) + leavers
    calls = [(number / 100, request) for number, request in enumerate(given)]
    plan = replayed(stub.url(), calls, driver="locust", lag_limit=ANY_LAG, timeout=1)
    down = Block(arm="control", requests=asked("unavailable"), arrivals=(0.5,))
    plan = replace(
        plan,
        targets={**plan.targets, "control": stub.url("down")},
        blocks=(*plan.blocks, replace(down, requests=(replace(down.requests[0], kind="down"),))),
        fleet=Fleet(processes=2),
    )

    result = run_plan(plan, tmp_path / "run")

    assert result.valid, result.invalid_reason
    ended = {str(sample.kind): sample for sample in result.samples}
    assert {kind: (sample.outcome, sample.error) for kind, sample in ended.items()} == {
        **ENDS,
        **{name: (outcome, error) for name, (_, outcome, error) in LEAVERS.items()},
        "down": (Outcome.FAILED, "http 503 and not ready"),
    }
    assert {sample.protocol for sample in result.samples} == {"h1"}
    rows = (tmp_path / "run" / "locust").glob("rows-*.jsonl")
    assert sorted(len(path.read_text(encoding="utf-8").splitlines()) for path in rows) == [8, 8]
    assert_told_as_it_was(ended["ok"], given[0], stub, tmp_path / "run")
    assert_locust_agrees(result, tmp_path / "run")
    assert_no_text_leaked(plan, tmp_path / "run" / "locust")
    assert not {"locust", "gevent"} & sys.modules.keys()


def assert_told_as_it_was(
    sample: Sample, request: Request, stub: StubProcess, folder: Path
) -> None:
    origin = read_report(folder / "samples.json").origin
    own = {name: at - origin for name, at in stub.seen()[request.key].items()}
    assert (sample.flags, sample.finish_reason) == ("all", "length")
    assert (sample.prompt_tokens, sample.output_tokens) == (7, 8)
    assert sample.sent is not None
    assert sample.first_token is not None
    assert sample.end is not None
    assert sample.scheduled <= sample.sent <= own["arrived"]
    # The role chunk came before `first`; only text may end the TTFT, and not the last text.
    assert own["first"] <= sample.first_token < sample.end


def assert_locust_agrees(result: LoadResult, folder: Path) -> None:
    failed = [s for s in result.samples if s.outcome not in {Outcome.OK, Outcome.CANCELLED}]
    whole, first = entries(folder, "POST"), entries(folder, "TTFT")
    assert sum(entry["num_requests"] for entry in whole) == len(result.samples)
    assert sum(entry["num_failures"] for entry in whole) == len(failed)
    assert sum(e["num_requests"] for e in first) == sum(s.ttft is not None for s in result.samples)
    assert {"stats.html", "stats_stats.csv", "stats_failures.csv"} <= {
        path.name for path in (folder / "locust").iterdir()
    }


def assert_no_text_leaked(plan: Plan, folder: Path) -> None:
    (folder / "plan.json").unlink()  # it holds what was asked, as the run's own does
    prompts = [r.body["messages"][-1]["content"] for block in plan.blocks for r in block.requests]
    written = "".join(
        path.read_text(encoding="utf-8", errors="replace")
        for path in folder.iterdir()
        if path.is_file()
    )
    assert not [prompt for prompt in prompts if prompt in written]
    assert "secret" not in written  # what the stub's error event says


def test_a_closed_plan_over_tls_keeps_its_concurrency_whatever_locust_is_told_elsewhere(
    tmp_path: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate
    other = tmp_path / "other-python"
    other.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    other.chmod(0o755)
    monkeypatch.setenv(INTERPRETER_VARIABLE, str(other))
    monkeypatch.setenv("LOCUST_RUN_TIME", "1ms")
    (tmp_path / ".locust.conf").write_text("tags = nothing\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    with running_stub(tmp_path / "stub.jsonl", cert=cert, key=key) as stub:
        plan = streams(
            stub.url(), concurrency=3, requests=18, seed=1, driver="locust", lag_limit=ANY_LAG,
            workload=replace(SHORT, model=None), ca_file=str(cert),
        )  # fmt: skip
        assert plan.targets["treatment"].startswith("https://")
        result = run_plan(plan, tmp_path / "run")
    assert result.valid, result.invalid_reason
    spans = [(s.sent, s.end) for s in result.samples if s.sent is not None and s.end is not None]
    assert len(spans) == 18
    assert max(sum(sent <= at < end for sent, end in spans) for at, _ in spans) == 3
    assert {sample.outcome for sample in result.samples} == {Outcome.OK}


@contextmanager
def started(plan: Plan, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A driver that runs, as `run_plan` starts it."""
    folder.mkdir()
    write_plan(folder / "plan.json", plan)
    command = [*DRIVER, str(folder / "plan.json"), str(folder / "samples.jsonl")]
    with (
        (folder / LOG_FILE).open("wb") as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=log, start_new_session=True
        ) as child,
    ):
        yield child


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        (lambda child: child.send_signal(signal.SIGTERM), "SIGTERM"),
        (lambda child: child.stdin.close(), "the parent process is gone"),
    ],
    ids=["SIGTERM", "end of standard input"],
)
def test_a_stopped_run_writes_what_there_is_and_leaves_no_process(
    stub: StubProcess, tmp_path: Path, stop: Callable[[Any], None], reason: str
) -> None:
    plan = a_plan(stub.url(), "hang", warmup=0, max_in_flight=8)
    with started(plan, tmp_path / "run") as child:
        wait_for(lambda: has_dropped(tmp_path / "run", 2) and len(stub.seen()) == 8)
        family = locusts(child.pid)
        stop(child)
        assert child.wait(30) == 1
    assert gone(family)
    assert len(family) == 1
    result = read_run(tmp_path / "run")
    assert not result.complete
    assert result.invalid_reason.startswith(f"generator stopped early: {reason}")
    assert "2 requests dropped > 0: 8 were in flight" in result.invalid_reason
    assert [s.outcome for s in result.samples] == [Outcome.CANCELLED] * 8 + [Outcome.DROPPED] * 2
    assert {(s.sent, s.end, s.protocol) for s in result.samples[8:]} == {(None, None, None)}


def has_dropped(folder: Path, count: int) -> bool:
    rows = folder / "locust" / "rows-0.jsonl"
    return rows.exists() and rows.read_text(encoding="utf-8").count('"dropped"') == count


def test_no_locust_outlives_a_driver_that_was_killed(stub: StubProcess, tmp_path: Path) -> None:
    plan = a_plan(stub.url(), "hang", fleet=Fleet(processes=2))
    with started(plan, tmp_path / "run") as child:
        wait_for(lambda: bool(stub.seen()))
        family = locusts(child.pid)
        child.kill()
    wait_for(lambda: gone(family))
    assert len(family) == 3
    assert not read_run(tmp_path / "run").complete


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_stalled_server_shows_in_full_to_workers_on_another_machine(tmp_path: Path) -> None:
    rate, stall, port = 50, 0.5, free_port()
    fleet = Fleet(workers=2, port=port)
    with (
        running_stub(tmp_path / "stub.jsonl", stall_at=20, stall=stall) as stub,
        # As another machine would start them: two processes of one command.
        subprocess.Popen([*DRIVER, "worker", f"127.0.0.1:{port}", "2"]) as machine,
    ):
        plan = a_plan(stub.url(), "stall", rate=rate, requests=60, warmup=2, fleet=fleet)
        result = run_plan(plan, tmp_path / "run")
        assert machine.wait(30) == 0
        assert len(stub.seen()) == 62  # the warm-up too
    assert result.valid, result.invalid_reason
    assert {sample.outcome for sample in result.samples} == {Outcome.OK}
    assert result.connections
    # All who came meanwhile waited for what was left of it, and not only who was served then.
    waits = sorted((s.ttft for s in result.samples if s.ttft is not None), reverse=True)
    assert waits[0] >= stall - 1 / rate
    assert all(wait >= stall / 2 for wait in waits[: int(rate * stall / 2) - 1])


def test_a_lent_machine_joins_one_run_after_the_other_until_it_is_told_to_end(
    shared_stub: StubProcess, tmp_path: Path
) -> None:
    port = free_port()
    command = [sys.executable, "-P", "-m", "pytest_phase5.cli", "load", "worker"]
    with subprocess.Popen([*command, f"127.0.0.1:{port}"]) as machine:
        try:
            for run in ("first", "second"):
                plan = a_plan(shared_stub.url(), "ok", fleet=Fleet(workers=1, port=port))
                result = run_plan(plan, tmp_path / run)
                assert result.valid, result.invalid_reason
                assert len(result.samples) == 10
                assert machine.poll() is None
            machine.send_signal(signal.SIGINT)
            assert machine.wait(30) == 0
        finally:
            machine.kill()


def test_a_worker_that_leaves_makes_the_run_invalid(stub: StubProcess, tmp_path: Path) -> None:
    plan = a_plan(stub.url(), "hang", fleet=Fleet(processes=2))
    with started(plan, tmp_path / "run") as child:
        wait_for(lambda: bool(stub.seen()))
        family = locusts(child.pid)
        family[-1].kill()
        assert child.wait(30) == 1
    assert gone(family)
    result = read_run(tmp_path / "run")
    assert not result.valid
    assert "of 2 left" in result.invalid_reason


def test_a_locust_that_breaks_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no module named locust >&2\nexit 7\n", encoding="utf-8")
    broken.chmod(0o755)
    monkeypatch.setenv(INTERPRETER_VARIABLE, str(broken))
    result = run_plan(a_plan("http://127.0.0.1:1", "ok"), tmp_path / "run")
    assert not result.complete
    assert "Locust ended with status 7; no module named locust" in result.invalid_reason
    assert (tmp_path / "run" / "locust" / OUTPUT).exists()


def test_an_interpreter_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(INTERPRETER_VARIABLE, "/nowhere/python")
    result = run_plan(a_plan("http://127.0.0.1:1", "ok"), tmp_path / "run")
    assert not result.valid
    assert "PHASE5_LOCUST=/nowhere/python is not a program" in result.invalid_reason


@pytest.mark.parametrize("arguments", [[], ["missing.json", "out.jsonl"], ["worker", "nowhere"]])
def test_a_driver_without_a_plan_says_so_in_one_line(arguments: list[str], tmp_path: Path) -> None:
    ended = subprocess.run(
        [*DRIVER, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1


def test_what_locust_imports_of_ours_needs_only_the_standard_library() -> None:
    """Its interpreter may lack all else."""
    modules = ("answer", "plan", "progress", "ticket", "locust_driver.parts")
    names = ", ".join(f"pytest_phase5.load.{module}" for module in modules)
    code = f"import sys; sys.path.insert(0, {str(Path.cwd())!r}); import {names}"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)  # without site-packages
