"""Loads that change over time, carried out."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from gates.samples import Outcome
from pytest_phase5.load.checks import read_report
from pytest_phase5.load.curves import constant, spike, steps
from pytest_phase5.load.driver import run_plan
from pytest_phase5.load.plan import Driver
from pytest_phase5.load.progress import Progress
from pytest_phase5.load.shaped import along, stepped
from pytest_phase5.load.steps import StopRule
from pytest_phase5.load.stub_process import StubProcess, running_stub
from pytest_phase5.load.workload import SHORT

#: Lag that tests of other things allow, so that a noisy machine cannot fail them.
ANY_LAG = 10.0
QUICK = replace(SHORT, model="ok")
BOTH = pytest.mark.parametrize("driver", ["http1", "http2"])


@BOTH
def test_steps_end_after_the_first_that_fails(tmp_path: Path, driver: Driver) -> None:
    # The stub stands still once, in the third step of twenty requests each: after a warm-up
    # of ten, its fiftieth is the tenth of that step.
    with running_stub(tmp_path / "stub.jsonl", stall_at=60, stall=1.0) as stub:
        plan = stepped(
            stub.url(),
            [replace(step, spacing="even") for step in steps(40, 0, 5, 0.5)],
            stop=StopRule(latency=0.5),
            seed=1,
            workload=replace(SHORT, model="stall"),
            warmup=0.25,
            lag_limit=ANY_LAG,
            driver=driver,
        )
        assert [len(block.requests) for block in plan.blocks] == [10, 20, 20, 20, 20, 20]
        result = run_plan(plan, tmp_path / "run")
    assert result.valid, result.invalid_reason
    assert (result.stopped_at, result.stopped_by, len(result.samples)) == (2, "server", 60)
    assert result.stop_reason.startswith("goodput ")
    assert result.stop_reason.endswith(" < 95.00% of offered (n=20)")
    report = read_report(tmp_path / "run" / "samples.json")
    assert (report.complete, report.stopped_at) == (True, 2)


def test_a_generator_that_is_late_from_the_first_step_ends_the_search_and_shows_nothing(
    shared_stub: StubProcess, tmp_path: Path
) -> None:
    # No client sends within a nanosecond of the time that it was told.
    plan = stepped(
        shared_stub.url(), steps(40, 20, 4, 0.5), stop=StopRule(), seed=1, workload=QUICK,
        lag_limit=1e-9,
    )  # fmt: skip
    result = run_plan(plan, tmp_path / "run")
    assert result.complete
    assert not result.valid
    assert (result.stopped_at, result.stopped_by, result.late) == (1, "generator", (0, 1))
    assert result.invalid_reason.startswith("no step could be judged: the generator did not keep")
    assert {sample.block for sample in result.samples} == {0, 1}


def test_a_server_that_holds_is_asked_to_the_last_step_and_each_step_waits_for_the_last_answer(
    shared_stub: StubProcess, tmp_path: Path
) -> None:
    plan = stepped(
        shared_stub.url(), steps(40, 20, 3, 0.5), stop=StopRule(), seed=1, workload=QUICK,
        lag_limit=ANY_LAG,
    )  # fmt: skip
    result = run_plan(plan, tmp_path / "run")
    assert result.valid, result.invalid_reason
    assert (result.stopped_at, result.stop_reason) == (None, "")
    assert len(result.samples) == plan.measured
    by_step = [[s for s in result.samples if s.block == step] for step in range(3)]
    for step, following in pairwise(by_step):
        last = max(sample.end for sample in step if sample.end is not None)
        assert min(sample.scheduled for sample in following) >= last


@BOTH
def test_a_spike_is_sent_as_asked_and_its_progress_can_be_followed(
    shared_stub: StubProcess, tmp_path: Path, driver: Driver
) -> None:
    plan = along(
        shared_stub.url(), spike(100, 2.0), seed=1, workload=QUICK, lag_limit=ANY_LAG, driver=driver
    )
    told: list[Progress] = []
    result = run_plan(plan, tmp_path / "run", on_progress=told.append)
    assert result.valid, result.invalid_reason
    assert {s.outcome for s in result.samples} == {Outcome.OK}
    planned = [plan.blocks[1].start + due for due in plan.blocks[1].arrivals]
    assert [sample.scheduled for sample in result.samples] == planned
    everything = sum(len(block.requests) for block in plan.blocks)
    last = told[-1]
    assert (last.planned, last.sent, last.ended) == (everything, everything, everything)
    assert (last.errors, last.dropped, last.in_flight) == (0, 0, 0)
    assert len(told) >= 3
    assert all(one.at <= two.at and one.sent <= two.sent for one, two in pairwise(told))


def test_the_measured_part_follows_the_warm_up_without_a_pause_or_a_burst(
    shared_stub: StubProcess, tmp_path: Path
) -> None:
    # Answers take longer than the warm-up: none has ended when the measured part begins.
    plan = along(
        shared_stub.url(), constant(50, 1.0, "even"), seed=1, warmup=0.5, lag_limit=ANY_LAG,
        workload=replace(QUICK, tokens=(200, 200)),
    )  # fmt: skip
    result = run_plan(plan, tmp_path / "run")
    assert result.valid, result.invalid_reason
    seen = shared_stub.seen()
    warm = [seen[request.key] for request in plan.blocks[0].requests]
    origin = read_report(tmp_path / "run" / "samples.json").origin
    first = result.samples[0]
    assert first.scheduled == pytest.approx(0.51)  # even at 50 per second, the first half way
    assert first.sent is not None
    assert all(row["ended"] - origin > first.sent for row in warm)
