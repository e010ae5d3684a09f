from hypothesis import given
from hypothesis import strategies as st

from engine.core.stall import StallLimit


def test_before_any_step_the_first_limit_holds() -> None:
    assert StallLimit(first=30).seconds(now=0) == 30


def test_the_limit_follows_the_slowest_recent_step() -> None:
    limit = StallLimit(floor=1, ceiling=100)
    limit.observe(2, now=0)
    limit.observe(0.5, now=1)
    assert limit.seconds(now=2) == 20
    assert limit.seconds(now=60.5) == 5  # the slow one is over a minute old


def test_after_a_long_rest_the_first_limit_holds_again() -> None:
    limit = StallLimit(first=30)
    limit.observe(0.001, now=0)
    assert limit.seconds(now=1000) == 30


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=600))
def test_the_limit_stays_within_its_bounds(steps: list[float]) -> None:
    limit = StallLimit()
    for step in steps:
        limit.observe(step, now=0)
        assert limit.floor <= limit.seconds(now=0) <= limit.ceiling
