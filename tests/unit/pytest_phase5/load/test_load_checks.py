from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gates.samples import Outcome, Sample
from pytest_phase5.load import curves
from pytest_phase5.load.checks import RunReport, faults, read_report, write_report
from pytest_phase5.load.plan import Plan
from pytest_phase5.load.plans import interleaved, open_loop
from pytest_phase5.load.shaped import stepped
from pytest_phase5.load.steps import StopRule
from pytest_phase5.load.workload import SHORT

URL = "http://127.0.0.1:1"
COUNT = 400
REPORT = RunReport(
    complete=True, reason="", started="2025-01-01T00:00:00+00:00", origin=0.0, rows=COUNT, loop="x"
)
PLAN = open_loop(
    URL, rate=100, requests=COUNT, seed=1, workload=SHORT, schedule="constant", warmup=0
)


def sample(index: int, **changes: Any) -> Sample:
    due = index / 100
    fields: dict[str, Any] = {
        "index": index,
        "arm": "treatment",
        "block": 0,
        "scheduled": due,
        "sent": due + 0.001,
        "first_token": due + 0.1,
        "end": due + 0.2,
        "outcome": Outcome.OK,
        "protocol": "h1",
    }
    return Sample(**fields | changes)


RUN = [sample(index) for index in range(COUNT)]


def late(lag: float, first: int) -> list[Sample]:
    return [s if s.index < first else replace(s, sent=s.scheduled + lag) for s in RUN]


def dropped(index: int) -> list[Sample]:
    gone = replace(RUN[index], outcome=Outcome.DROPPED, sent=None, first_token=None, end=None)
    return [*RUN[:index], gone, *RUN[index + 1 :]]


def test_a_run_on_schedule_is_valid() -> None:
    assert list(faults(PLAN, RUN, REPORT)) == []


def test_failures_of_the_server_do_not_make_a_run_invalid() -> None:
    failed = [replace(s, outcome=Outcome.FAILED, first_token=None) for s in RUN]
    assert list(faults(PLAN, failed, REPORT)) == []


@pytest.mark.parametrize(
    ("samples", "report", "reason"),
    [
        (late(0.021, COUNT - 5), REPORT, "dispatch lag p99 21.0 ms > 20.0 ms"),
        (dropped(3), REPORT, "1 requests dropped > 0: 512 were in flight"),
        (RUN[:-1], REPORT, "399 rows, 400 planned"),
        ([*RUN[:-1], RUN[0]], REPORT, "rows are missing or repeated"),
        (RUN, replace(REPORT, rows=399), "400 rows, the generator wrote 399"),
        (RUN, replace(REPORT, complete=False, reason="SIGTERM"), "stopped early: SIGTERM"),
        (dropped(0)[:1], REPORT, "no request was sent"),
    ],
)
def test_a_run_that_cannot_be_judged_says_why(
    samples: list[Sample], report: RunReport, reason: str
) -> None:
    assert reason in "; ".join(faults(PLAN, samples, report))


def test_a_few_late_requests_are_allowed() -> None:
    assert list(faults(PLAN, late(0.021, COUNT - 4), REPORT)) == []


@pytest.mark.parametrize(
    ("factor", "valid"), [(0.97, False), (0.99, True), (1.01, True), (1.03, False)]
)
def test_the_achieved_rate_must_be_within_two_percent(factor: float, *, valid: bool) -> None:
    stretched = [replace(s, sent=s.scheduled * factor) for s in RUN]
    reasons = [reason for reason in faults(PLAN, stretched, REPORT) if reason.startswith("rate ")]
    assert (reasons == []) is valid


def test_a_closed_run_has_no_rate_to_keep() -> None:
    plan = interleaved(
        URL, URL, rounds=COUNT // 4, per_block=2, concurrency=1, seed=1, workload=SHORT
    )
    stretched = [replace(s, scheduled=s.scheduled * 9, sent=s.scheduled * 9) for s in RUN]
    assert list(faults(plan, stretched, REPORT)) == []


def in_steps(samples: list[Sample]) -> list[Sample]:
    return [replace(s, block=s.index // 100) for s in samples]


STEPPED = stepped(
    URL, [curves.constant(100, 1.0, "even")] * 6, stop=StopRule(), seed=1, workload=SHORT, warmup=0
)


def test_a_run_that_its_rule_stopped_is_whole_with_the_steps_that_it_took() -> None:
    stopped = replace(REPORT, stopped_at=3, stop_reason="goodput 3% < 95%")
    assert list(faults(STEPPED, in_steps(RUN), stopped)) == []
    assert "400 rows, 600 planned" in "; ".join(faults(STEPPED, in_steps(RUN), REPORT))


@pytest.mark.parametrize(("index", "valid"), [(399, True), (299, False)])
def test_requests_may_be_dropped_only_in_the_step_that_failed(index: int, *, valid: bool) -> None:
    stopped = replace(REPORT, stopped_at=3, stop_reason="goodput 3% < 95%")
    reasons = list(faults(STEPPED, in_steps(dropped(index)), stopped))
    assert (reasons == []) is valid


def test_a_protocol_that_the_driver_does_not_speak_makes_a_run_invalid() -> None:
    other = replace(PLAN, driver="http2")
    assert list(faults(other, RUN, REPORT)) == [
        "400 of 400 requests not over h2, which the driver speaks"
    ]
    assert list(faults(other, [replace(s, protocol="h2") for s in RUN], REPORT)) == []


def test_the_limits_are_those_of_the_plan() -> None:
    strict: Plan = replace(PLAN, lag_limit=0.0005)
    assert "dispatch lag p99 1.0 ms > 0.5 ms" in "; ".join(faults(strict, RUN, REPORT))


def test_a_report_survives_its_file(tmp_path: Path) -> None:
    write_report(tmp_path / "samples.json", REPORT)
    assert read_report(tmp_path / "samples.json") == REPORT
    assert [path.name for path in tmp_path.iterdir()] == ["samples.json"]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema": "other"}', '{"schema": "phase5.load-run/1"}']
)
def test_what_is_not_a_report_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "samples.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"samples\.json: not a run report"):
        read_report(tmp_path / "samples.json")
