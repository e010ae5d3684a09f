from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_phase5.load.schedule import SCHEDULES, arrivals, constant, poisson

RATES = st.floats(min_value=0.01, max_value=10_000)
COUNTS = st.integers(min_value=0, max_value=300)
SEEDS = st.integers(min_value=0, max_value=2**32)


@given(name=st.sampled_from(sorted(SCHEDULES)), rate=RATES, count=COUNTS, seed=SEEDS)
def test_arrivals_are_as_many_as_asked_in_order_and_the_same_each_time(
    name: str, rate: float, count: int, seed: int
) -> None:
    due = arrivals(name, rate=rate, count=count, seed=seed)
    assert len(due) == count
    assert list(due) == sorted(due)
    assert all(offset >= 0 for offset in due)
    assert due == arrivals(name, rate=rate, count=count, seed=seed)


@given(rate=RATES, count=st.integers(min_value=2, max_value=300))
def test_constant_arrivals_have_the_rate(rate: float, count: int) -> None:
    due = constant(rate, count)
    assert due[0] == 0
    assert (count - 1) / due[-1] == pytest.approx(rate)


@given(rate=RATES, seed=SEEDS)
def test_poisson_arrivals_have_the_rate_on_average(rate: float, seed: int) -> None:
    count = 2_000
    # The mean of 2,000 exponential gaps has a relative deviation of 2.2 %; this is seven of them.
    assert poisson(rate, count, seed)[-1] / count == pytest.approx(1 / rate, rel=0.16)


@given(seed=SEEDS)
def test_poisson_gaps_vary_as_exponential_ones_do(seed: int) -> None:
    due = poisson(1.0, 2_000, seed)
    gaps = [later - earlier for earlier, later in pairwise(due)]
    short = sum(gap < 1.0 for gap in gaps) / len(gaps)
    # 1 - 1/e = 0.632 of exponential gaps are below the mean; deviation 0.011, seven of them.
    assert short == pytest.approx(0.632, abs=0.076)


@given(seed=SEEDS)
def test_another_seed_gives_other_poisson_arrivals(seed: int) -> None:
    assert poisson(10, 20, seed) != poisson(10, 20, seed + 1)


@pytest.mark.parametrize("schedule", [constant, poisson])
@pytest.mark.parametrize(
    ("rate", "count"), [(0.0, 1), (-1.0, 1), (float("inf"), 1), (float("nan"), 1), (1.0, -1)]
)
def test_impossible_schedules_are_refused(
    schedule: Callable[[float, int, int], tuple[float, ...]], rate: float, count: int
) -> None:
    with pytest.raises(ValueError, match="allowed"):
        schedule(rate, count, 0)


def test_an_unknown_schedule_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'burst'; allowed: constant, poisson, gamma"):
        arrivals("burst", rate=1, count=1, seed=0)
