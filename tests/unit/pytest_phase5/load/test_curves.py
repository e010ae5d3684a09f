from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_phase5.load.curves import SPACINGS, Curve, Leg, constant, ramp, spike, steps

SEEDS = st.integers(min_value=0, max_value=2**32)
RATES = st.floats(min_value=0, max_value=100, allow_subnormal=False)
LEGS = st.builds(Leg, st.floats(min_value=0.1, max_value=5), RATES, RATES)
CURVES = st.builds(
    Curve,
    legs=st.lists(LEGS, min_size=1, max_size=4)
    .map(tuple)
    .filter(lambda legs: sum(leg.requests for leg in legs) > 0),
    spacing=st.sampled_from(SPACINGS),
    shape=st.floats(min_value=0.2, max_value=5),
)


def due_until(curve: Curve, at: float) -> float:
    """The integral of the rate, by the trapezoids of each leg: exact for straight lines."""
    total = begin = 0.0
    for leg in curve.legs:
        inside = min(max(at - begin, 0.0), leg.seconds)
        slope = (leg.end - leg.start) / leg.seconds
        total += inside * (leg.start + slope * inside / 2)
        begin += leg.seconds
    return total


@given(curve=CURVES, seed=SEEDS)
def test_arrivals_rise_within_the_curve_and_are_the_same_each_time(curve: Curve, seed: int) -> None:
    due = curve.arrivals(seed)
    assert list(due) == sorted(due)
    assert all(0 <= at <= curve.seconds * (1 + 1e-9) for at in due)
    assert due == curve.arrivals(seed)


@given(curve=CURVES)
def test_even_arrivals_come_at_each_half_of_the_integral(curve: Curve) -> None:
    due = Curve(legs=curve.legs, spacing="even").arrivals(0)
    assert abs(len(due) - curve.requests) <= 0.5 + 1e-6
    for place, at in enumerate(due):
        assert due_until(curve, at) == pytest.approx(place + 0.5, abs=1e-6)


@given(curve=CURVES, seed=SEEDS)
def test_turned_round_arrivals_are_those_of_rate_one(curve: Curve, seed: int) -> None:
    # The gaps in the integral of any curve are those of a constant rate of 1.
    unit = constant(1.0, curve.requests, curve.spacing, curve.shape).arrivals(seed)
    for at, plain in zip(curve.arrivals(seed), unit, strict=False):
        assert due_until(curve, at) == pytest.approx(plain, abs=1e-6)


@given(seed=SEEDS)
def test_a_poisson_spike_has_the_number_and_the_shape_that_were_asked(seed: int) -> None:
    due = spike(200, 20).arrivals(seed)
    # 2,000 on average with a deviation of 45; the middle half of the time has three quarters.
    assert abs(len(due) - 2_000) <= 7 * 45
    middle = sum(5 <= at <= 15 for at in due) / len(due)
    assert middle == pytest.approx(0.75, abs=7 * 0.0097)


@pytest.mark.parametrize(("shape", "spread"), [(0.25, 2.0), (1.0, 1.0), (4.0, 0.5)])
def test_gamma_gaps_spread_as_their_shape_says(shape: float, spread: float) -> None:
    due = constant(10, 2_000, "gamma", shape).arrivals(3)
    gaps = [later - earlier for earlier, later in pairwise(due)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(0.1, rel=0.1)
    assert deviation / mean == pytest.approx(spread, rel=0.1)


@given(seed=SEEDS)
def test_another_seed_gives_other_arrivals(seed: int) -> None:
    assert ramp(1, 20, 5).arrivals(seed) != ramp(1, 20, 5).arrivals(seed + 1)


@given(curve=CURVES, factor=st.floats(min_value=0.01, max_value=3))
def test_a_scaled_curve_keeps_its_rates_and_changes_its_length(curve: Curve, factor: float) -> None:
    scaled = curve.scaled(factor)
    assert scaled.peak == curve.peak
    assert scaled.seconds == pytest.approx(curve.seconds * factor)
    assert scaled.requests == pytest.approx(curve.requests * factor)


def test_the_rate_goes_straight_from_point_to_point() -> None:
    there_and_back = spike(100, 10, base=20)
    assert [there_and_back.rate(at) for at in (-1, 0, 2.5, 5, 7.5, 10, 11)] == [
        0, 20, 60, 100, 60, 20, 0,
    ]  # fmt: skip
    assert [step.rate(0) for step in steps(10, 5, 3, 2.0)] == [10, 15, 20]


@pytest.mark.parametrize(
    ("legs", "changes", "message"),
    [
        ([Leg(0, 1, 1)], {}, "leg 0: 0 s; allowed: more than zero"),
        ([Leg(float("nan"), 1, 1)], {}, "leg 0: nan s"),
        ([Leg(1, 1, 1), Leg(1, -1, 1)], {}, r"leg 1: rates \(-1, 1\); allowed: zero or more"),
        ([Leg(1, float("inf"), 1)], {}, "leg 0: rates"),
        ([Leg(1, 0, 0)], {}, "no request is ever due"),
        ([], {}, "no request is ever due"),
        ([Leg(1, 1, 1)], {"spacing": "odd"}, "spacing 'odd'; allowed: even, poisson, gamma"),
        ([Leg(1, 1, 1)], {"shape": 0}, "shape 0; allowed: more than zero"),
    ],
)
def test_curves_that_no_request_could_follow_are_refused(
    legs: list[Leg], changes: dict[str, float | str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Curve(legs=tuple(legs), **changes)  # type: ignore[arg-type] # that is the point


def test_no_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="count 0; allowed: 1 or more"):
        steps(1, 1, 0, 1)
