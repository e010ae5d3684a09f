from dataclasses import replace
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.pid import SLEW_AFTER_OVERSHOOT, PidController, PidSettings

#: Wide bounds and no deadband, so that each part can be seen alone.
OPEN = PidSettings(kp=0, ki=0, kd=0, deadband=0, slew=100, low=-100, high=100)
REAL = PidSettings(kp=0.1, ki=0.2, kd=0.05, deadband=0.07, slew=0.22, low=0, high=4)


def controller(settings: PidSettings, start: float = 0.0) -> PidController:
    return PidController(settings, setpoint=1.0, start=start)


def outputs(settings: PidSettings, measurements: list[float], start: float = 0.0) -> list[float]:
    pid = controller(settings, start)
    return [pid.update(measurement) for measurement in measurements]


@pytest.mark.parametrize(
    ("gains", "measurements", "expected"),
    [
        pytest.param({"ki": 0.5}, [0.0, 0.0, 0.5], [0.5, 1.0, 1.25], id="integral adds up"),
        pytest.param({"kp": 2.0}, [0.5, 0.0, 0.5], [0.0, 1.0, 1.0], id="proportional, no bump"),
        pytest.param({"ki": 1, "kd": 0.5}, [0.0, 0.5], [1.0, 1.25], id="slope brakes the rise"),
        pytest.param({"ki": 1, "kd": 9.0}, [0.0, 0.5], [1.0, 1.0], id="slope never reverses"),
        pytest.param({"ki": 1, "deadband": 0.2}, [0.9, 1.1, 1.2], [0.0, 0.0, 0.0], id="deadband"),
        pytest.param({"ki": 1, "slew": 0.3}, [0.0, 3.0], [0.3, 0.15], id="slew, halved on a turn"),
        pytest.param({"ki": 1, "high": 0.7}, [0.0, 0.0], [0.7, 0.7], id="bounded above"),
        pytest.param({"ki": 1, "low": -0.7}, [2.0, 2.0], [-0.7, -0.7], id="bounded below"),
    ],
)
def test_each_part_alone(
    gains: dict[str, float], measurements: list[float], expected: list[float]
) -> None:
    assert outputs(replace(OPEN, **gains), measurements) == pytest.approx(expected)


@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_a_measurement_that_is_not_finite_leaves_no_trace(bad: float) -> None:
    disturbed = outputs(REAL, [0.5, bad, 0.6, bad, 1.4], 1.0)
    undisturbed = outputs(REAL, [0.5, 0.6, 1.4], 1.0)
    assert [disturbed[0], disturbed[2], disturbed[4]] == undisturbed
    assert disturbed[1] == disturbed[0]


def test_a_long_stay_at_the_bound_does_not_delay_the_way_back() -> None:
    settings = replace(OPEN, ki=0.5, high=1.0)
    *_, at_bound, back = outputs(settings, [0.0] * 100 + [1.5])
    assert at_bound == 1.0
    assert back == pytest.approx(0.75)


def test_an_output_in_the_deadband_is_where_the_next_move_starts() -> None:
    settings = replace(OPEN, kp=0.5, ki=0.1, deadband=0.05)
    moved, rested, again = outputs(settings, [0.0, 1.0, 0.9])
    assert rested == moved
    assert again == pytest.approx(moved + (0.5 + 0.1) * 0.1)


def test_each_turn_halves_the_largest_step() -> None:
    series = outputs(replace(OPEN, ki=50, slew=0.8), [0.0, 2.0, 0.0, 2.0, 0.0])
    steps = [abs(b - a) for a, b in zip([0.0, *series], series, strict=False)]
    assert steps == pytest.approx([0.8 * SLEW_AFTER_OVERSHOOT**turn for turn in range(5)])


NOISE = [1.2, 0.8] * 6  # turns that leave next to nothing of the step


def step_after(measurements: list[float]) -> float:
    """The size of the last step."""
    series = outputs(replace(OPEN, ki=50, slew=0.8), measurements)
    return abs(series[-1] - series[-2])


def test_two_errors_that_stand_out_give_the_whole_step_back() -> None:
    assert step_after([*NOISE, 1.6, 1.6]) == pytest.approx(0.8)


@pytest.mark.parametrize(
    "after",
    [
        pytest.param([1.2, 1.2], id="as large as before"),
        pytest.param([1.6], id="one alone"),
        pytest.param([1.6, 0.4], id="one on each side"),
    ],
)
def test_noise_and_a_swing_do_not(after: list[float]) -> None:
    assert step_after([*NOISE, *after]) <= 0.8 / 16


def test_the_start_lies_within_the_bounds() -> None:
    with pytest.raises(ValueError, match=r"start 5.0 is outside 0 to 4"):
        controller(REAL, start=5.0)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60), st.floats(0, 4))
def test_the_output_keeps_bounds_slew_and_direction(
    measurements: list[float], start: float
) -> None:
    pid = controller(REAL, start)
    for measurement in measurements:
        before = pid.output
        after = pid.update(measurement)
        assert REAL.low <= after <= REAL.high
        assert abs(after - before) <= REAL.slew + 1e-9
        if measurement >= 1.0:
            assert after <= before
        if measurement <= 1.0:
            assert after >= before
