from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_phase5.load.curves import constant, spike, steps
from pytest_phase5.load.plan import Block, LeaveAfter, Plan, Request, lag_limit
from pytest_phase5.load.plan_file import read_plan, write_plan
from pytest_phase5.load.plans import interleaved, open_loop, streams
from pytest_phase5.load.shaped import along, stepped
from pytest_phase5.load.steps import StopRule
from pytest_phase5.load.workload import MIXED, SHORT

URL = "http://127.0.0.1:1"
ASKED = (Request(key="a", body={}), Request(key="b", body={}))
GOOD = Block(arm="treatment", requests=ASKED, arrivals=(0.0, 1.0))


def compared(**changes: int) -> Plan:
    shape = {"rounds": 3, "per_block": 2, "concurrency": 1, "seed": 5} | changes
    return interleaved(f"{URL}/t", f"{URL}/c", workload=SHORT, **shape)


@pytest.mark.parametrize(
    "plan",
    [
        open_loop(URL, rate=20, requests=5, seed=1, workload=SHORT),
        open_loop(URL, rate=20, requests=30, seed=1, workload=MIXED, driver="http2", ca_file="c"),
        compared(),
        streams(URL, concurrency=3, requests=9, seed=1, workload=SHORT, driver="locust"),
        stepped(URL, steps(5, 5, 2, 1.0), stop=StopRule(ttft=0.4), seed=1, workload=SHORT),
    ],
    ids=["open", "mixed", "interleaved", "streams", "stepped"],
)
def test_a_plan_survives_its_file(plan: Plan, tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.json", plan)
    assert read_plan(tmp_path / "plan.json") == plan


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "phase5.plan/0"}', "{"])
def test_what_is_not_a_plan_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"plan\.json: not a plan"):
        read_plan(tmp_path / "plan.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": ()}, "no measured request"),
        ({"blocks": (replace(GOOD, warmup=True),)}, "no measured request"),
        ({"blocks": (replace(GOOD, arm="other"),)}, "arm 'other'; allowed: treatment"),
        ({"blocks": (replace(GOOD, arrivals=(0.0,)),)}, "1 arrivals; allowed: 2"),
        ({"blocks": (replace(GOOD, arrivals=(1.0, 0.0)),)}, "not in order"),
        ({"blocks": (replace(GOOD, arrivals=(-1.0, 0.0)),)}, "not negative"),
        ({"blocks": (replace(GOOD, start=float("nan")),)}, "finite"),
        ({"blocks": (replace(GOOD, concurrency=0),)}, "concurrency 0; allowed: 1"),
        ({"closed": True}, "2 arrivals; allowed: 0"),
        ({"timeout": 0.0}, "timeout 0.0; allowed"),
        ({"max_in_flight": 0}, "max_in_flight 0; allowed"),
        ({"lag_limit": -1.0}, "lag_limit -1.0; allowed"),
        ({"driver": "http3"}, "driver 'http3'; allowed: http1, http2, locust"),
        (
            {"closed": True, "blocks": (replace(GOOD, arrivals=()),), "stop": StopRule()},
            "a stop rule in a closed run",
        ),
    ],
)
def test_a_plan_that_cannot_run_is_refused(changes: dict[str, Any], message: str) -> None:
    fields = {"targets": {"treatment": URL}, "blocks": (GOOD,)} | changes
    with pytest.raises(ValueError, match=message):
        Plan(**fields)


@given(rounds=st.integers(1, 6), per_block=st.integers(1, 5), warmup=st.integers(0, 4))
def test_both_arms_of_a_round_get_the_same_requests_and_lead_in_turn(
    rounds: int, per_block: int, warmup: int
) -> None:
    plan = compared(rounds=rounds, per_block=per_block, warmup=warmup)
    measured = [block for block in plan.blocks if not block.warmup]
    assert plan.measured == 2 * rounds * per_block == sum(len(b.requests) for b in measured)
    for number in range(rounds):
        first, second = measured[2 * number : 2 * number + 2]
        assert first.requests == second.requests
        assert {first.arm, second.arm} == {"treatment", "control"}
        assert first.arm == ("treatment" if number % 2 == 0 else "control")


def test_measured_requests_are_numbered_without_the_warm_up() -> None:
    shots = [shot for block in compared(rounds=2, per_block=2).shots() for shot in block]
    assert [shot.index for shot in shots] == [None] * 4 + list(range(8))
    assert [shot.block for shot in shots] == [None] * 4 + [0, 0, 1, 1, 2, 2, 3, 3]


def test_warm_up_prompts_are_not_measured_again() -> None:
    plan = compared()
    warm = {request.key for block in plan.blocks if block.warmup for request in block.requests}
    rest = {request.key for block in plan.blocks if not block.warmup for request in block.requests}
    assert warm.isdisjoint(rest)


def test_open_loop_warms_up_at_the_measured_rate_without_a_gap() -> None:
    plan = open_loop(URL, rate=20, requests=5, seed=1, workload=SHORT, schedule="constant")
    warm, measured = plan.blocks
    assert (len(warm.requests), warm.warmup, measured.warmup) == (20, True, False)
    due = warm.arrivals + measured.arrivals
    assert due == pytest.approx([number / 20 for number in range(25)])


def test_the_bound_of_a_run_covers_its_last_request() -> None:
    plan = open_loop(URL, rate=20, requests=5, seed=1, workload=SHORT, timeout=7)
    last = plan.blocks[-1].arrivals[-1]
    assert plan.longest > last + 7
    assert replace(plan, budget=3.0).longest == 3.0


def test_the_lag_limit_is_a_twentieth_of_the_smallest_limit() -> None:
    assert lag_limit(0.8, 0.5, 1.2) == pytest.approx(0.025)
    assert lag_limit() == pytest.approx(0.020)


@given(
    rate=st.floats(4, 300),
    warmup=st.floats(0.1, 3),
    seconds=st.floats(0.5, 3),
    seed=st.integers(0, 2**32),
)
def test_the_measured_part_follows_the_warm_up_without_a_pause_or_a_burst(
    rate: float, warmup: float, seconds: float, seed: int
) -> None:
    plan = along(
        URL, constant(rate, seconds, "even"), seed=seed, workload=SHORT, warmup=warmup, timeout=7
    )
    if len(plan.blocks) == 1 or not plan.blocks[0].requests:
        return
    warm, measured = plan.blocks
    end = warm.start + warm.arrivals[-1]
    begin = measured.start + measured.arrivals[0]
    assert (warm.warmup, measured.warmup, measured.start) == (True, False, warmup)
    # At most one and a half gaps, at least half of one: the two parts are spaced on their own.
    assert 0.49 / max(rate, len(warm.arrivals) / warmup) <= begin - end <= 1.51 / rate + 1e-9


@given(peak=st.floats(20, 300), seconds=st.floats(1, 4), seed=st.integers(0, 2**32))
def test_a_curve_that_begins_at_nothing_warms_up_with_ten_requests_a_second(
    peak: float, seconds: float, seed: int
) -> None:
    spiked = spike(peak, seconds, spacing="even")
    warm, measured = along(URL, spiked, seed=seed, workload=SHORT).blocks
    assert len(warm.requests) == 10
    assert measured.arrivals == spiked.arrivals(seed + 1)
    assert along(URL, spiked, seed=seed, workload=SHORT, warmup=0).blocks[0].warmup is False


def test_steps_are_blocks_one_after_the_other_with_other_arrivals() -> None:
    plan = stepped(URL, steps(20, 0, 3, 2.0), stop=StopRule(), seed=1, workload=SHORT)
    assert [block.start for block in plan.blocks] == [0.0, 1.0, 3.0, 5.0]
    assert len({block.arrivals for block in plan.blocks}) == 4
    keys = [request.key for block in plan.blocks for request in block.requests]
    assert len(set(keys)) == len(keys)
    assert plan.measured_until(0) == len(plan.blocks[1].requests)
    assert plan.measured_until(None) == plan.measured == plan.measured_until(2)


def test_the_bound_of_a_run_in_steps_leaves_each_its_last_answer() -> None:
    plan = stepped(URL, steps(20, 0, 3, 2.0), stop=StopRule(), seed=1, workload=SHORT, timeout=7)
    assert plan.longest > 5 + 4 * 7


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "tokens None, seconds None; allowed: one of them"),
        ({"tokens": 1, "seconds": 1.0}, "tokens 1, seconds 1.0; allowed: one of them"),
        ({"tokens": 0}, "tokens 0; allowed: 1 or more"),
        ({"seconds": 0.0}, "seconds 0.0; allowed: more than zero"),
        ({"seconds": float("inf")}, "seconds inf; allowed"),
    ],
)
def test_leaving_needs_one_moment(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LeaveAfter(**given)
