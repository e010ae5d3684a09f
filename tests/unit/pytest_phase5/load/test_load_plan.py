from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_phase5.load.plan import Block, Plan, Request, lag_limit, read_plan, write_plan
from pytest_phase5.load.plans import interleaved, open_loop
from pytest_phase5.load.workload import SHORT

URL = "http://127.0.0.1:1"
ASKED = (Request(key="a", body={}), Request(key="b", body={}))
GOOD = Block(arm="treatment", requests=ASKED, arrivals=(0.0, 1.0))


def compared(**changes: int) -> Plan:
    shape = {"rounds": 3, "per_block": 2, "concurrency": 1, "seed": 5} | changes
    return interleaved(f"{URL}/t", f"{URL}/c", workload=SHORT, **shape)


@pytest.mark.parametrize(
    "plan",
    [open_loop(URL, rate=20, requests=5, seed=1, workload=SHORT), compared()],
    ids=["open", "interleaved"],
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
