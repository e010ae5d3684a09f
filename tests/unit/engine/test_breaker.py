import pytest

from engine.core.breaker import Breaker, BreakerState

CLOSED, OPEN, HALF_OPEN = BreakerState


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker(failures=3, seconds=10)
    breaker.open(at)
    return breaker


def test_d4_failures_in_a_row_open_it() -> None:
    breaker = Breaker(failures=3, seconds=10)
    breaker.failed(0)
    breaker.failed(1)
    assert breaker.state(1) is CLOSED
    breaker.failed(2)
    assert breaker.state(2) is OPEN
    assert not breaker.passes(2)


def test_a_success_in_between_keeps_it_closed() -> None:
    breaker = Breaker(failures=2, seconds=10)
    for now in range(10):
        breaker.failed(now)
        breaker.succeeded()
    assert breaker.state(10) is CLOSED
    assert breaker.openings == 0


def test_d4_it_is_half_open_after_its_time_and_lets_one_probe_pass() -> None:
    breaker = opened()
    assert breaker.state(9.9) is OPEN
    assert breaker.state(10) is HALF_OPEN
    assert breaker.passes(10)
    breaker.attempt(10)
    assert not breaker.passes(11)


def test_a_probe_that_succeeds_closes_it() -> None:
    breaker = opened()
    breaker.attempt(10)
    breaker.succeeded()
    assert breaker.state(11) is CLOSED


def test_a_probe_that_fails_opens_it_again_at_once() -> None:
    breaker = opened()
    breaker.attempt(10)
    breaker.failed(12)
    assert breaker.state(21.9) is OPEN
    assert breaker.state(22) is HALF_OPEN


def test_a_probe_without_a_result_makes_room_for_another() -> None:
    breaker = opened()
    breaker.attempt(10)
    breaker.abandon()
    assert breaker.passes(11)


def test_it_needs_failures_and_time() -> None:
    with pytest.raises(ValueError, match="failures >= 1, seconds > 0: 0, 1"):
        Breaker(0, 1)
