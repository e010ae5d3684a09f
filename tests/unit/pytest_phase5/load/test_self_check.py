from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gates.samples import Outcome, Sample
from pytest_phase5.load.curves import spike
from pytest_phase5.load.plan import Plan
from pytest_phase5.load.plans import interleaved, open_loop
from pytest_phase5.load.self_check import (
    Calibration,
    Load,
    calibrated,
    compared,
    load_of,
    peak_rate,
)
from pytest_phase5.load.shaped import along
from pytest_phase5.load.workload import SHORT

URL = "http://127.0.0.1:1"
PLAN = open_loop(URL, rate=10, requests=3, seed=1, workload=SHORT, warmup=2)


def sample(index: int, error: float) -> Sample:
    """One that the generator saw `error` later than the stub has it."""
    due = 1.0 + index
    return Sample(
        index=index, arm="treatment", block=0, scheduled=due, sent=due,
        first_token=due + 0.5 + error, end=due + 2.0 + 2 * error, outcome=Outcome.OK,
    )  # fmt: skip


def seen_by_stub() -> dict[str, dict[str, float]]:
    keys = [request.key for request in PLAN.blocks[1].requests]
    return {key: {"arrived": 50.0, "first": 50.5, "ended": 52.0} for key in keys}


def test_the_error_is_the_median_of_what_the_stub_did_not_do() -> None:
    samples = [sample(0, 0.001), sample(1, 0.003), sample(2, 9.0)]
    found = compared(PLAN, samples, seen_by_stub())
    assert (found.n, found.failure) == (3, "")
    assert found.ttft == pytest.approx(0.003)
    assert found.latency == pytest.approx(0.006)


@pytest.mark.parametrize(
    ("ttft", "latency", "fault"),
    [
        (0.0199, 0.0, None),
        (-0.0199, 0.0, None),
        (0.0301, 0.0, "TTFT off by 30.1 ms, allowed 20.0 ms (5% of 400 ms, median, n=9)"),
        (-0.0301, 0.0, "TTFT off by -30.1 ms, allowed 20.0 ms"),
        (0.0, 0.5, "latency off by 500.0 ms, allowed 20.0 ms"),
    ],
)
def test_more_than_a_twentieth_of_the_limit_is_a_fault(
    ttft: float, latency: float, fault: str | None
) -> None:
    told = Calibration(ttft, latency, 9).fault(0.4)
    assert (told is None) is (fault is None)
    assert fault is None or f"self-check: {fault}" in str(told)


def test_what_was_not_measured_is_never_within_the_limit() -> None:
    bad = Sample(
        index=0, arm="treatment", block=0, scheduled=0.0, sent=0.0, first_token=None, end=1.0,
        outcome=Outcome.FAILED, error="ConnectError",
    )  # fmt: skip
    failures = [
        compared(PLAN, [bad], seen_by_stub()),
        compared(PLAN, [sample(0, 0.0)], {}),
        compared(PLAN, [], seen_by_stub()),
        Calibration(failure="not measured"),
    ]
    told = [found.fault(1e9) for found in failures]
    assert told == [
        "self-check: the stub's answer 0: failed (ConnectError)",
        "self-check: the stub has not seen the end of request 0",
        "self-check: no sample",
        "self-check: not measured",
    ]


def test_an_invalid_measurement_is_looked_at_again_and_then_says_why() -> None:
    looks: list[Plan] = []

    def carry_out(plan: Plan, folder: Path) -> tuple[Sequence[Sample], str]:
        assert not folder.exists()
        looks.append(plan)
        return (), "dispatch lag"

    found = calibrated(Load("http1", closed=True, level=2), 0.4, carry_out)
    assert found.fault(0.4) == "self-check: dispatch lag"
    assert len(looks) == 3
    assert {block.concurrency for plan in looks for block in plan.blocks} == {2}


@given(due=st.lists(st.floats(0, 20), max_size=60).map(sorted), at=st.floats(0, 20))
def test_the_peak_rate_is_the_most_of_any_second(due: list[float], at: float) -> None:
    assert sum(at <= moment < at + 1 for moment in due) <= peak_rate(due) <= len(due)


def test_a_plan_is_checked_at_its_own_height() -> None:
    steady = open_loop(
        URL, rate=30, requests=90, seed=1, workload=SHORT, schedule="constant", driver="http2"
    )
    assert load_of(steady) == Load("http2", closed=False, level=30)
    spiked = along(URL, spike(258, 20, spacing="even"), seed=1, workload=SHORT)
    assert load_of(spiked) == Load("http1", closed=False, level=260)
    closed = interleaved(URL, URL, rounds=1, per_block=4, concurrency=3, seed=1, workload=SHORT)
    assert load_of(closed) == Load("http1", closed=True, level=3)
