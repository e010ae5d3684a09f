"""What the Locust driver decides without Locust: shares, commands, and what it makes of books."""

import json
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gates.samples import Outcome, Sample, write_rows
from pytest_phase5.load.checks import RunReport, faults, read_report, write_report
from pytest_phase5.load.curves import steps
from pytest_phase5.load.locust_driver.command import (
    child_environment,
    interpreter,
    invitation,
    run_command,
    worker_command,
)
from pytest_phase5.load.locust_driver.parts import (
    PLAN_VARIABLE,
    FileDesk,
    Part,
    mine,
    part_file,
    progress_file,
    rows_file,
    write_part,
)
from pytest_phase5.load.locust_driver.results import ProgressSum, merge, tail
from pytest_phase5.load.plan import Fleet, Plan
from pytest_phase5.load.plan_file import read_plan, write_plan
from pytest_phase5.load.plans import interleaved, open_loop
from pytest_phase5.load.progress import Progress, write_progress
from pytest_phase5.load.self_check import load_of
from pytest_phase5.load.shaped import stepped
from pytest_phase5.load.steps import StopRule
from pytest_phase5.load.workload import SHORT

URL = "http://127.0.0.1:1"


def a_plan(fleet: Fleet, **changes: Any) -> Plan:
    options: dict[str, Any] = {"rate": 100, "requests": 100, "seed": 1, "schedule": "constant"}
    plan = open_loop(URL, workload=SHORT, driver="locust", **options | changes)
    return replace(plan, fleet=fleet)


def sample(index: int, outcome: Outcome = Outcome.OK) -> Sample:
    return Sample(
        index=index, arm="treatment", block=0, scheduled=1.0, sent=1.0, first_token=None, end=2.0,
        outcome=outcome,
    )  # fmt: skip


def part(share: int | None, **changes: Any) -> Part:
    fields: dict[str, Any] = {"complete": True, "reason": "", "started": "now", "origin": 5.0}
    return Part(share=share, shares=2, **fields | changes)


def books(folder: Path, requests: int, failures: int) -> None:
    entry = {"name": "x", "num_requests": requests, "num_failures": failures}
    first = {"name": "x", "method": "TTFT", "num_requests": 99, "num_failures": 0}
    text = json.dumps([{**entry, "method": "POST"}, first])
    (folder / "stats.json").write_text(text, encoding="utf-8")


@given(count=st.integers(0, 50), shares=st.integers(1, 9))
def test_all_shares_together_have_each_request_once(count: int, shares: int) -> None:
    dealt = [list(mine(range(count), share, shares)) for share in range(shares)]
    assert sorted(chain.from_iterable(dealt)) == list(range(count))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"processes": 0}, "fleet: 0 processes, 0 workers; allowed: 1 process or more"),
        ({"workers": -1}, "fleet: 1 processes, -1 workers"),
        ({"processes": 2, "workers": 2}, "fleet: 2 processes, 2 workers"),
        ({"port": 0}, "fleet: port 0, wait 60.0"),
        ({"wait": 0.0}, "fleet: port 5557, wait 0.0"),
    ],
)
def test_a_fleet_that_cannot_be_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Fleet(**fields)


def test_what_needs_all_samples_needs_one_sender() -> None:
    closed = interleaved(URL, URL, rounds=1, per_block=2, concurrency=1, seed=1, workload=SHORT)
    with pytest.raises(ValueError, match="plan: closed, 2 senders; allowed: 1"):
        replace(closed, driver="locust", fleet=Fleet(processes=2))
    rule = {"stop": StopRule(), "seed": 1, "workload": SHORT}
    with pytest.raises(ValueError, match="a stop rule with driver 'locust'; allowed: http1, http2"):
        stepped(URL, steps(5, 5, 2, 1.0), driver="locust", **rule)
    with pytest.raises(ValueError, match="a fleet with driver 'http1'; allowed: locust"):
        replace(a_plan(Fleet(processes=2)), driver="http1")


def test_a_fleet_survives_the_plans_file(tmp_path: Path) -> None:
    plan = a_plan(Fleet(workers=3, bind="*", wait=9.0))
    write_plan(tmp_path / "plan.json", plan)
    assert read_plan(tmp_path / "plan.json") == plan


def test_workers_elsewhere_lengthen_the_run_by_their_wait() -> None:
    here, elsewhere = a_plan(Fleet()), a_plan(Fleet(workers=2, wait=30.0))
    assert elsewhere.longest == pytest.approx(here.longest + 30.0)


@pytest.mark.parametrize(
    ("fleet", "divided", "processes"),
    [(Fleet(), 1, 1), (Fleet(processes=2), 1, 2), (Fleet(workers=4), 4, 1)],
)
def test_the_self_check_bears_what_one_machine_has_to(
    fleet: Fleet, divided: int, processes: int
) -> None:
    load = load_of(a_plan(fleet, rate=400))
    assert load.level == pytest.approx(400 / divided, rel=0.2)  # rounded, so that few are measured
    assert load.processes == processes


def test_one_process_needs_no_master() -> None:
    command = run_command("python", Fleet(), 1)
    assert not {"--master", "--processes", "--host"} & set(command)
    assert command[command.index("--users") + 1] == "1"


def test_forks_meet_their_master_on_loopback() -> None:
    command = run_command("python", Fleet(processes=3), 77)
    for option, value in (("--processes", "3"), ("--users", "3"), ("--master-port", "77")):
        assert command[command.index(option) + 1] == value
    for option in ("--master-bind-host", "--master-host"):
        assert command[command.index(option) + 1] == "127.0.0.1"


def test_a_master_of_workers_elsewhere_listens_where_it_was_told() -> None:
    command = run_command("python", Fleet(workers=2, bind="*", port=99, wait=30), 99)
    wanted = {"--expect-workers": "2", "--master-bind-host": "*", "--master-bind-port": "99"}
    for option, value in {**wanted, "--expect-workers-max-wait": "30"}.items():
        assert command[command.index(option) + 1] == value
    assert "--processes" not in command
    worker = worker_command("python", "10.0.0.1", 99, 2)
    assert worker[-7:] == [
        *("--worker", "--master-host", "10.0.0.1", "--master-port", "99"),
        *("--processes", "2"),
    ]


@pytest.mark.parametrize(("bind", "host"), [("*", "MASTER"), ("10.0.0.1", "10.0.0.1")])
def test_the_invitation_names_the_master(bind: str, host: str) -> None:
    said = invitation(Fleet(workers=2, bind=bind, port=99))
    assert said == f"phase5 load worker {host}:99"


def test_locust_hears_nothing_but_the_plan(tmp_path: Path) -> None:
    inherited = {"LOCUST_USERS": "7", "COV_CORE_SOURCE": "x", "PATH": "/bin", "HOME": "/root"}
    seen = child_environment(sys.executable, tmp_path, tmp_path / "plan.json", inherited)
    assert not {"LOCUST_USERS", "COV_CORE_SOURCE", "PYTHONPATH"} & seen.keys()
    assert (seen["PATH"], seen["HOME"]) == ("/bin", str(tmp_path))
    assert seen[PLAN_VARIABLE] == str(tmp_path / "plan.json")


def test_another_python_is_lent_two_packages_and_nothing_else(tmp_path: Path) -> None:
    seen = child_environment("/other/python", tmp_path, None, {})
    lent = Path(seen["PYTHONPATH"])
    assert {path.name for path in lent.iterdir()} == {"gates", "pytest_phase5"}
    assert (lent / "gates" / "samples.py").exists()
    assert PLAN_VARIABLE not in seen


def test_the_python_of_locust_is_this_one_unless_named() -> None:
    assert interpreter({}) == interpreter({"PHASE5_LOCUST": ""}) == sys.executable
    assert interpreter({"PHASE5_LOCUST": sys.executable}) == str(Path(sys.executable).absolute())


def test_a_merged_run_is_in_order_and_agrees_with_the_books(tmp_path: Path) -> None:
    outcomes = (Outcome.OK, Outcome.CUT, Outcome.CANCELLED, Outcome.DROPPED)
    for share in range(2):
        desk = FileDesk(tmp_path, share)
        for index in range(share, 4, 2):
            desk.row(sample(index, outcomes[index]))
        desk.part(part(share, rows=2))
    write_part(tmp_path, part(None, origin=4.0))
    books(tmp_path, requests=3, failures=1)
    merged = merge(tmp_path, 2, master=True)
    assert [row.index for row in merged.samples] == [0, 1, 2, 3]
    assert (merged.reason, merged.faults) == ("", ())
    assert merged.first is not None
    assert merged.first.origin == 4.0


@pytest.mark.parametrize(
    ("requests", "failures", "fault"),
    [
        (2, 0, "1 rows of sent requests, Locust counted 2"),
        (1, 1, "0 rows of failures, Locust counted 1"),
    ],
)
def test_books_that_differ_make_a_run_invalid(
    tmp_path: Path, requests: int, failures: int, fault: str
) -> None:
    write_rows(rows_file(tmp_path, 0), [sample(0)])
    write_part(tmp_path, part(0))
    books(tmp_path, requests, failures)
    assert merge(tmp_path, 1, master=False).faults == (fault,)


def test_a_run_without_books_is_invalid(tmp_path: Path) -> None:
    write_rows(rows_file(tmp_path, 0), [sample(0)])
    write_part(tmp_path, part(0))
    (fault,) = merge(tmp_path, 1, master=False).faults
    assert fault.startswith("Locust's own count cannot be read")


def test_a_fault_of_the_driver_reaches_the_checks(tmp_path: Path) -> None:
    report = RunReport(
        complete=True, reason="", started="now", origin=0.0, rows=1, loop="gevent", faults=("odd",)
    )
    write_report(tmp_path / "samples.json", report)
    plan = a_plan(Fleet(), requests=1, warmup=0)
    assert "odd" in list(faults(plan, [sample(0)], read_report(tmp_path / "samples.json")))


def test_a_process_without_a_report_makes_the_run_incomplete(tmp_path: Path) -> None:
    write_part(tmp_path, part(None))
    write_part(tmp_path, part(1))
    assert merge(tmp_path, 2, master=True).reason == "process 0 left no report"


def test_the_masters_reason_is_the_reason(tmp_path: Path) -> None:
    write_part(tmp_path, part(None, complete=False, reason="worker 1 of 2 left"))
    write_part(tmp_path, part(0, complete=False, reason="Locust was stopped"))
    reason = merge(tmp_path, 2, master=True).reason
    assert reason == "worker 1 of 2 left; process 1 left no report"


def test_a_torn_part_is_named(tmp_path: Path) -> None:
    part_file(tmp_path, 0).write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"part-0\.json: not a part of a run"):
        merge(tmp_path, 1, master=False)


def test_the_tail_holds_what_locust_and_python_said_last(tmp_path: Path) -> None:
    assert tail(tmp_path) == "no output"
    (tmp_path / "locust.log").write_text("1\n2\n3\n4\n", encoding="utf-8")
    (tmp_path / "output.log").write_text("Boom\n", encoding="utf-8")
    assert tail(tmp_path) == "2 | 3 | 4 | Boom"


def test_progress_is_that_of_all_processes_together(tmp_path: Path) -> None:
    total = ProgressSum(tmp_path, 2)
    counts = {"planned": 5, "sent": 2, "ended": 1, "errors": 0, "dropped": 0}
    write_progress(progress_file(tmp_path, 0), Progress(at=1.0, **counts))
    assert total.new() is None  # the other has not begun
    write_progress(progress_file(tmp_path, 1), Progress(at=1.5, **counts))
    new = total.new()
    assert new is not None
    assert (new.at, new.planned, new.sent, new.in_flight) == (1.5, 10, 4, 2)
    assert total.new() is None
