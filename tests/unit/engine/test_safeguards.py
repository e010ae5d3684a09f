import pytest

from engine.core.breaker import BreakerState
from engine.core.safeguards import Limits, Refusal, Safeguards

LIMITS = Limits(
    cooldown_seconds=10,
    max_per_window=3,
    window_seconds=100,
    loop_moves=4,
    loop_seconds=500,
    breaker_failures=3,
    breaker_seconds=50,
)
DOWN, UP, STILL = -1, +1, 0


def moved(*steps: tuple[int, float], limits: Limits = LIMITS) -> Safeguards:
    guard = Safeguards(limits)
    for direction, now in steps:
        guard.moves("a", direction, now)
        guard.release()
    return guard


def test_a_policy_that_owns_the_actuator_keeps_others_out_until_it_lets_go() -> None:
    guard = Safeguards(LIMITS)
    guard.moves("a", DOWN, 0)
    assert guard.refusal("b", DOWN, 20) is Refusal.OWNED
    assert guard.refusal("a", DOWN, 20) is None
    guard.release()
    assert guard.refusal("b", DOWN, 20) is None


def test_an_actuator_rests_after_each_move() -> None:
    guard = moved((DOWN, 0))
    assert guard.refusal("b", DOWN, 9.9) is Refusal.COOLDOWN
    assert guard.cooling(4) == 6
    assert guard.refusal("b", DOWN, 10) is None
    guard.rests(12)
    assert guard.refusal("b", DOWN, 21) is Refusal.COOLDOWN


def test_so_many_moves_within_the_window_and_no_more() -> None:
    guard = moved((DOWN, 0), (DOWN, 20), (DOWN, 40))
    assert guard.refusal("a", DOWN, 99.9) is Refusal.RATE_LIMIT
    assert guard.refusal("a", DOWN, 100) is None


def test_d3_an_actuator_moved_to_and_fro_is_a_loop_and_opens_the_breaker() -> None:
    guard = moved((UP, 0), (DOWN, 110), (UP, 220))
    assert guard.refusal("b", DOWN, 330) is Refusal.LOOP
    assert guard.breaker.state(330) is BreakerState.OPEN
    assert guard.refusal("b", DOWN, 331) is Refusal.BREAKER
    assert guard.refusal("b", DOWN, 380) is None  # half open


@pytest.mark.parametrize(
    ("steps", "last"),
    [
        pytest.param([(UP, 0), (UP, 110), (UP, 220)], (UP, 330), id="always the same way"),
        pytest.param([(UP, 0), (DOWN, 110), (UP, 220)], (UP, 330), id="not to and fro"),
        pytest.param([(UP, 0), (DOWN, 110), (DOWN, 220)], (UP, 330), id="turned twice only"),
        pytest.param([(UP, 0), (DOWN, 200), (UP, 400)], (DOWN, 500), id="too slow for a loop"),
        pytest.param([(STILL, 0), (STILL, 110), (STILL, 220)], (STILL, 330), id="no direction"),
    ],
)
def test_what_is_no_loop_passes(steps: list[tuple[int, float]], last: tuple[int, float]) -> None:
    assert moved(*steps).refusal("a", *last) is None


def test_ways_back_count_as_moves() -> None:
    guard = Safeguards(LIMITS)
    guard.moves("a", DOWN, 0)
    guard.moved(UP, 110)
    guard.moved(UP, 120)  # one turn
    guard.moves("a", DOWN, 220)
    assert guard.refusal("a", DOWN, 330) is None
    guard.moved(UP, 330)
    assert guard.refusal("a", DOWN, 440) is Refusal.LOOP
