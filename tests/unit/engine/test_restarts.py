from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.restarts import Restarts


def test_delays_double_up_to_the_longest() -> None:
    restarts = Restarts(bound=9, first_delay_seconds=1, max_delay_seconds=5, jitter=lambda: 1.0)
    assert [restarts.died(now=0) for _ in range(5)] == [1, 2, 4, 5, 5]


def test_deaths_past_the_bound_within_the_window_end_it() -> None:
    restarts = Restarts(bound=2, window_seconds=60)
    assert restarts.died(0) is not None
    assert restarts.died(30) is not None
    assert restarts.died(60) is None
    assert restarts.total == 2


def test_a_death_outside_the_window_is_forgotten() -> None:
    restarts = Restarts(bound=2, window_seconds=60, jitter=lambda: 1.0)
    delays = [restarts.died(now) for now in (0.0, 61.0, 122.0, 183.0)]
    assert delays == [restarts.first_delay_seconds] * 4


def test_work_between_deaths_takes_them_back() -> None:
    restarts = Restarts(bound=1, jitter=lambda: 1.0)
    delays = []
    for now in range(100):
        delays.append(restarts.died(now))
        restarts.worked()
    assert delays == [restarts.first_delay_seconds] * 100
    assert restarts.total == 100


@given(st.floats(0, 1), st.integers(1, 20))
def test_jitter_takes_at_most_half_of_the_delay(jitter: float, deaths: int) -> None:
    restarts = Restarts(bound=deaths, jitter=lambda: jitter)
    full = Restarts(bound=deaths, jitter=lambda: 1.0)
    for _ in range(deaths):
        delay, longest = restarts.died(0), full.died(0)
        assert delay is not None
        assert longest is not None
        assert longest / 2 <= delay <= longest
        assert longest <= full.max_delay_seconds
