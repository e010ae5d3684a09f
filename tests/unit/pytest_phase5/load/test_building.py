"""Plans of profiles: rates stay, durations shrink, and long loads come in pieces."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_phase5.load.building import (
    MOST_REQUESTS,
    WARM_UP,
    Setting,
    check_sendable,
    count_plans,
    pieces,
    planned_rate,
    plans_of,
)
from pytest_phase5.load.curves import Curve, constant, ramp, spike
from pytest_phase5.load.plan import DRIVERS, Driver, Fleet
from pytest_phase5.load.profiles import PROFILES, Closed, Part, ProfileError, TimesExpected

SETTING = Setting(url="http://127.0.0.1:1", expected_load=50)


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_can_be_built_and_warms_up_first(name: str) -> None:
    for part in PROFILES[name].parts:
        for plan in plans_of(part, replace(SETTING, time_scale=0.001)):
            assert len(plan.blocks) >= 2
            assert len(plan.blocks[WARM_UP].requests) >= 1
            assert not any(block.warmup for block in plan.blocks)  # the books need every row


@given(scale=st.floats(0.01, 1))
def test_a_time_scale_shortens_and_keeps_the_rate(scale: float) -> None:
    part = Part(name="p", load=constant(100, 20))
    (plan,) = plans_of(part, replace(SETTING, time_scale=scale))
    judged = plan.blocks[1].arrivals
    assert max(judged, default=0) <= 20 * scale
    assert planned_rate(part, replace(SETTING, time_scale=scale)) == pytest.approx(100)


def test_a_closed_part_shrinks_to_two_turns_of_each_stream_at_the_least() -> None:
    part = Part(name="p", load=Closed(streams=20, requests=1_000))
    (plan,) = plans_of(part, replace(SETTING, time_scale=0.001))
    assert [len(block.requests) for block in plan.blocks] == [40, 40]
    assert {block.concurrency for block in plan.blocks} == {20}


def test_few_prompts_are_asked_over_and_over_by_clients_of_their_own() -> None:
    part = Part(name="p", load=Closed(streams=5, requests=100, prompts=7))
    (plan,) = plans_of(part, SETTING)
    asked = [request for block in plan.blocks for request in block.requests]
    assert len({str(request.body["messages"]) for request in asked}) == 7
    assert len({request.key for request in asked}) == len(asked)


@given(
    curve=st.sampled_from([constant(50, 7_200), spike(200, 3_000), ramp(10, 400, 900)]),
    most=st.integers(1_000, 50_000),
)
def test_pieces_follow_each_other_and_are_the_whole_load(curve: Curve, most: int) -> None:
    parts = list(pieces(curve, most))
    assert sum(part.seconds for part in parts) == pytest.approx(curve.seconds)
    assert sum(part.requests for part in parts) == pytest.approx(curve.requests)
    for before, after in pairwise(parts):
        assert before.legs[-1].end == pytest.approx(after.legs[0].start)


def test_a_soak_comes_in_pieces_with_requests_of_their_own() -> None:
    (part,), setting = PROFILES["soak"].parts, replace(SETTING, time_scale=0.3)
    plans = list(plans_of(part, setting))
    assert len(plans) == count_plans(part, setting) > 1
    assert all(plan.measured < 1.1 * MOST_REQUESTS for plan in plans)
    first, second = (plan.blocks[1].requests[0] for plan in plans[:2])
    assert first.body["messages"] != second.body["messages"]


def test_a_fleet_shares_the_sending_of_every_run_of_a_part() -> None:
    fleet = Fleet(workers=2, bind="*", port=7)
    setting = replace(SETTING, driver="locust", fleet=fleet, time_scale=0.3)
    check_sendable(PROFILES["soak"], setting)
    plans = list(plans_of(PROFILES["soak"].parts[0], setting))
    assert len(plans) > 1
    assert {(plan.driver, plan.fleet) for plan in plans} == {("locust", fleet)}


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("fleet", [Fleet(), Fleet(processes=2), Fleet(workers=1)])
def test_what_is_not_refused_can_be_built(name: str, driver: Driver, fleet: Fleet) -> None:
    setting = replace(SETTING, driver=driver, fleet=fleet, time_scale=0.001)
    try:
        check_sendable(PROFILES[name], setting)
    except ProfileError as refusal:
        assert "allowed: " in str(refusal)  # noqa: PT017 - both ends are right, by the profile
        return
    for part in PROFILES[name].parts:
        assert list(plans_of(part, replace(setting, driver=part.driver or driver)))


def test_twice_the_expected_load_needs_one() -> None:
    part = Part(name="p", load=TimesExpected(times=2, seconds=1))
    assert planned_rate(part, SETTING) == pytest.approx(100)
    with pytest.raises(ProfileError, match="expected_load"):
        list(plans_of(part, replace(SETTING, expected_load=None)))
