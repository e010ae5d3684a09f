"""The generator against a real server whose behaviour and own times are known."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from gates.samples import Outcome, read_rows
from pytest_phase5.load.checks import read_report
from pytest_phase5.load.driver import LoadResult, read_run, run_plan
from pytest_phase5.load.plan import Plan
from pytest_phase5.load.plan_file import write_plan
from pytest_phase5.load.plans import interleaved, open_loop
from pytest_phase5.load.stub_process import StubProcess
from pytest_phase5.load.workload import SHORT, Workload

GENERATOR = [sys.executable, "-P", "-m", "pytest_phase5.load.generator"]
#: Lag that tests of other things allow, so that a noisy machine cannot fail them.
ANY_LAG = 10.0


def asking(kind: str, **changes: Any) -> Workload:
    return replace(SHORT, model=kind, **changes)


def a_plan(url: str, kind: str, **changes: Any) -> Plan:
    options: dict[str, Any] = {"rate": 100, "requests": 10, "warmup": 2, "lag_limit": ANY_LAG}
    return open_loop(url, seed=3, workload=asking(kind), schedule="constant", **options | changes)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about in 30 s"
        time.sleep(0.01)


def outcomes(result: LoadResult) -> set[tuple[Outcome, int | None, str | None]]:
    return {(sample.outcome, sample.status, sample.error) for sample in result.samples}


def test_a_refused_connection_is_a_failure(tmp_path: Path) -> None:
    with socket.socket() as bound:  # bound and not listening: nobody else can take the port
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        result = run_plan(a_plan(url, "ok"), tmp_path / "run")
    assert outcomes(result) == {(Outcome.FAILED, None, "ClientConnectorError")}
    assert len(result.samples) == 10


@pytest.mark.parametrize(("reuse", "fewest"), [(True, 1), (False, 12)])
def test_a_connection_serves_one_request_where_none_is_to_be_kept(
    shared_stub: StubProcess, tmp_path: Path, *, reuse: bool, fewest: int
) -> None:
    plan = a_plan(shared_stub.url(), "ok")
    blocks = tuple(replace(block, arrivals=(), concurrency=1) for block in plan.blocks)
    one_by_one = replace(plan, blocks=blocks, closed=True, reuse=reuse)
    result = run_plan(one_by_one, tmp_path / "run")
    assert result.connections == fewest


def test_a_target_is_asked_which_model_it_serves(shared_stub: StubProcess, tmp_path: Path) -> None:
    plan = open_loop(
        shared_stub.url(), rate=100, requests=5, seed=1, workload=SHORT, lag_limit=ANY_LAG
    )
    result = run_plan(plan, tmp_path / "run")
    assert "model" not in plan.blocks[0].requests[0].body
    assert outcomes(result) == {(Outcome.OK, 200, None)}  # the shared_stub knows no other name


def test_a_target_that_does_not_say_its_model_makes_the_run_invalid(
    shared_stub: StubProcess, tmp_path: Path
) -> None:
    plan = open_loop(shared_stub.url("down"), rate=100, requests=5, seed=1, workload=SHORT)
    result = run_plan(plan, tmp_path / "run")
    assert (result.valid, result.samples) == (False, ())
    assert result.invalid_reason.endswith("/down/v1/models: status 503; allowed: 200")


def test_a_sample_holds_what_the_server_said_and_did(stub: StubProcess, tmp_path: Path) -> None:
    plan = a_plan(stub.url(), "ok")
    result = run_plan(plan, tmp_path / "run")
    origin = read_report(tmp_path / "run" / "samples.json").origin
    seen = stub.seen()
    for sample, request in zip(result.samples, plan.blocks[1].requests, strict=True):
        assert (sample.flags, sample.protocol, sample.request_id) == ("all", "h1", "stub-1")
        assert (sample.prompt_tokens, sample.output_tokens) == (7, 16)
        assert sample.finish_reason == "length"
        own = {name: at - origin for name, at in seen[request.key].items()}
        assert sample.sent is not None
        assert sample.first_token is not None
        assert sample.end is not None
        # The role chunk came before `first`; only text may end the TTFT.
        assert sample.scheduled <= sample.sent <= own["arrived"] <= own["first"]
        assert own["first"] <= sample.first_token < sample.end


def test_the_warm_up_is_sent_and_not_counted(stub: StubProcess, tmp_path: Path) -> None:
    result = run_plan(a_plan(stub.url(), "ok", warmup=4), tmp_path / "run")
    assert len(stub.seen()) == 14
    assert len(result.samples) == 10


def test_an_answer_in_one_piece_has_no_first_token(
    shared_stub: StubProcess, tmp_path: Path
) -> None:
    plan = interleaved(
        shared_stub.url(),
        shared_stub.url(),
        rounds=1,
        per_block=2,
        concurrency=1,
        seed=1,
        workload=asking("ok", stream=False),
        lag_limit=ANY_LAG,
    )
    result = run_plan(plan, tmp_path / "run")
    assert {(s.outcome, s.first_token, s.output_tokens) for s in result.samples} == {
        (Outcome.OK, None, 16)
    }


@pytest.mark.parametrize("driver", ["http1", "http2"])
def test_a_server_that_stalls_for_two_seconds_shows_in_full_for_all_who_came_meanwhile(
    stub: StubProcess, tmp_path: Path, driver: str
) -> None:
    plan = a_plan(stub.url(), "stall", rate=50, requests=150, warmup=0, driver=driver)
    result = run_plan(plan, tmp_path / "run")
    origin = read_report(tmp_path / "run" / "samples.json").origin
    stalled = next(row for row in stub.seen().values() if "stall_end" in row)
    begin, end = stalled["stall_begin"] - origin, stalled["stall_end"] - origin
    assert end - begin >= 2
    meanwhile = [sample for sample in result.samples if begin < sample.scheduled < end]
    assert len(meanwhile) == pytest.approx(50 * (end - begin), abs=1)
    for sample in meanwhile:
        assert sample.ttft is not None
        assert sample.ttft >= end - sample.scheduled
    # They were sent while it lasted, and not one after another once it was over.
    early = [sample for sample in meanwhile if sample.scheduled < (begin + end) / 2]
    assert all(sample.sent is not None and sample.sent < end for sample in early)


def test_the_arms_take_turns_and_each_request_is_due_when_its_predecessor_ended(
    shared_stub: StubProcess, tmp_path: Path
) -> None:
    plan = interleaved(
        shared_stub.url("up"),
        shared_stub.url("down"),
        rounds=2,
        per_block=3,
        concurrency=1,
        seed=1,
        workload=asking("ok"),
        lag_limit=ANY_LAG,
    )
    result = run_plan(plan, tmp_path / "run")
    assert result.valid, result.invalid_reason
    arms = [(sample.block, sample.arm) for sample in result.samples[::3]]
    assert arms == [(0, "treatment"), (1, "control"), (2, "control"), (3, "treatment")]
    for before, after in pairwise(result.samples):
        assert before.end is not None
        assert after.sent is not None
        assert before.end <= after.scheduled <= after.sent
        if before.block == after.block:
            assert after.scheduled == before.end


def test_no_more_than_the_concurrency_is_in_flight_in_a_block(
    shared_stub: StubProcess, tmp_path: Path
) -> None:
    plan = interleaved(
        shared_stub.url(),
        shared_stub.url(),
        rounds=1,
        per_block=9,
        concurrency=3,
        seed=1,
        workload=asking("ok"),
        lag_limit=ANY_LAG,
    )
    result = run_plan(plan, tmp_path / "run")
    spans = [(s.sent, s.end) for s in result.samples if s.sent is not None and s.end is not None]
    together = [sum(sent <= at < end for sent, end in spans) for at, _ in spans]
    assert len(spans) == 18
    assert max(together) == 3


def test_a_generator_without_room_drops_and_declares_itself_invalid(
    shared_stub: StubProcess, tmp_path: Path
) -> None:
    plan = a_plan(shared_stub.url(), "hang", max_in_flight=4, timeout=2)
    result = run_plan(plan, tmp_path / "run")
    dropped = [sample for sample in result.samples if sample.outcome is Outcome.DROPPED]
    assert not result.valid
    assert f"{len(dropped)} requests dropped > 0: 4 were in flight" in result.invalid_reason
    assert len(result.samples) == 10
    assert {(s.sent, s.end, s.protocol) for s in dropped} == {(None, None, None)}


@pytest.mark.parametrize("driver", ["http1", "http2", "locust"])
def test_a_generator_that_cannot_keep_up_declares_itself_invalid(
    shared_stub: StubProcess, tmp_path: Path, driver: str
) -> None:
    # A thousand requests in one millisecond are beyond any client.
    plan = a_plan(
        shared_stub.url(), "status-404", rate=1_000_000, requests=1_000, max_in_flight=10_000,
        lag_limit=0.001, warmup=0, driver=driver,
    )  # fmt: skip
    result = run_plan(plan, tmp_path / "run")
    assert not result.valid
    assert "dispatch lag p99" in result.invalid_reason
    assert "rate " in result.invalid_reason
    assert len(result.samples) == 1_000


def test_a_run_beyond_its_budget_is_stopped_and_invalid(
    shared_stub: StubProcess, tmp_path: Path
) -> None:
    plan = replace(a_plan(shared_stub.url(), "hang"), budget=3.0)
    result = run_plan(plan, tmp_path / "run")
    assert not result.valid
    assert "generator stopped early: SIGTERM" in result.invalid_reason
    assert {sample.outcome for sample in result.samples} == {Outcome.CANCELLED}


def test_a_folder_serves_one_run(shared_stub: StubProcess, tmp_path: Path) -> None:
    plan = a_plan(shared_stub.url(), "status-404")
    run_plan(plan, tmp_path / "run")
    with pytest.raises(FileExistsError, match="a folder of its own"):
        run_plan(plan, tmp_path / "run")


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def generators(parent: int) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(parent).children()
        if "pytest_phase5.load.generator" in child.cmdline()
    ]


def test_a_killed_generator_makes_the_run_invalid(stub: StubProcess, tmp_path: Path) -> None:
    results: list[LoadResult] = []
    plan = a_plan(stub.url(), "hang")
    thread = threading.Thread(target=lambda: results.append(run_plan(plan, tmp_path / "run")))
    thread.start()
    wait_for(lambda: bool(stub.seen()))
    (child,) = generators(os.getpid())
    child.kill()
    thread.join()
    (result,) = results
    assert (result.valid, result.samples) == (False, ())
    assert "status -9" in result.invalid_reason


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        (lambda child: child.send_signal(signal.SIGINT), "SIGINT"),
        (lambda child: child.send_signal(signal.SIGTERM), "SIGTERM"),
        (lambda child: child.stdin.close(), "the parent process is gone"),
    ],
    ids=["SIGINT", "SIGTERM", "end of standard input"],
)
def test_a_stopped_generator_writes_what_there_is(
    stub: StubProcess, tmp_path: Path, stop: Callable[[Any], None], reason: str
) -> None:
    plan, out = tmp_path / "plan.json", tmp_path / "samples.jsonl"
    write_plan(plan, a_plan(stub.url(), "hang", warmup=0))
    with subprocess.Popen([*GENERATOR, str(plan), str(out)], stdin=subprocess.PIPE) as child:
        wait_for(lambda: len(stub.seen()) == 10)
        stop(child)
        assert child.wait(30) == 1
    report = read_report(out.with_suffix(".json"))
    assert (report.complete, report.reason, report.rows) == (False, reason, 10)
    assert [row.outcome for row in read_rows(out)] == [Outcome.CANCELLED] * 10


def test_a_generator_ends_when_its_parent_is_killed(stub: StubProcess, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    write_plan(plan, a_plan(stub.url(), "hang"))
    script = (
        "import sys; from pathlib import Path;"
        "from pytest_phase5.load.driver import run_plan;"
        "from pytest_phase5.load.plan_file import read_plan;"
        "run_plan(read_plan(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-P", "-c", script, str(plan), str(tmp_path / "run")]
    with subprocess.Popen(command) as parent:
        wait_for(lambda: bool(stub.seen()))
        (child,) = generators(parent.pid)
        parent.kill()
    wait_for((tmp_path / "run" / "samples.json").exists)
    report = read_report(tmp_path / "run" / "samples.json")
    assert (report.complete, report.reason) == (False, "the parent process is gone")
    wait_for(lambda: not lives(child))


@pytest.mark.parametrize(
    ("driver", "check", "rows"), [("http1", "None", 10), ("http2", "None", 10), ("http1", "9.0", 0)]
)
def test_ctrl_c_leaves_an_incomplete_result_and_nothing_running(
    stub: StubProcess, tmp_path: Path, driver: str, check: str, rows: int
) -> None:
    plan, run = tmp_path / "plan.json", tmp_path / "run"
    write_plan(plan, a_plan(stub.url(), "hang", warmup=0, driver=driver))
    script = (
        "import sys; from pathlib import Path;"
        "from pytest_phase5.load.driver import run_plan;"
        "from pytest_phase5.load.plan_file import read_plan;"
        f"run_plan(read_plan(Path(sys.argv[1])), Path(sys.argv[2]), self_check={check})"
    )
    command = [sys.executable, "-P", "-c", script, str(plan), str(run)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as parent:
        # With a self-check, in its middle: the stub runs, the plan has not begun.
        wait_for(lambda: len(stub.seen()) == 10 if rows else bool(generators(parent.pid)))
        children = psutil.Process(parent.pid).children(recursive=True)
        os.killpg(parent.pid, signal.SIGINT)
        _, said = parent.communicate(timeout=60)
    assert said.splitlines()[-1].startswith(b"KeyboardInterrupt")
    assert children
    assert not any(lives(child) for child in children)
    if rows:
        result = read_run(run)
        assert (result.complete, result.valid, len(result.samples)) == (False, False, rows)
        assert result.invalid_reason.startswith("generator stopped early: ")


@pytest.mark.parametrize("arguments", [[], ["missing.json", "out.jsonl"]])
def test_a_generator_without_a_plan_says_so_in_one_line(
    arguments: list[str], tmp_path: Path
) -> None:
    ended = subprocess.run(
        [*GENERATOR, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
