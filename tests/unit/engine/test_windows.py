from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.windows import SlidingWindow, quantile

values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.95, 95), (0.951, 96), (1.0, 100)]
)
def test_quantile_of_one_to_a_hundred(share: float, expected: int) -> None:
    assert quantile(range(100, 0, -1), share) == expected


@given(values, st.integers(0, 100))
def test_a_quantile_is_a_value_that_the_share_does_not_exceed(
    values: list[float], percent: int
) -> None:
    found = quantile(values, percent / 100)
    assert found in values
    assert sum(v <= found for v in values) >= floor(percent * len(values) / 100)
    assert sum(v < found for v in values) <= max(ceil(percent * len(values) / 100) - 1, 0)


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.5), ([1.0], -0.1)])
def test_there_is_no_quantile_of_nothing_nor_beyond_the_ends(
    values: list[float], share: float
) -> None:
    with pytest.raises(ValueError, match=f"no quantile {share} of {len(values)} values"):
        quantile(values, share)


def test_a_window_holds_what_is_younger_than_its_length() -> None:
    window: SlidingWindow[str] = SlidingWindow(10.0, 99)
    window.add("a", 0.0)
    window.add("b", 5.0)
    assert window.samples(9.9) == ["a", "b"]
    assert window.samples(10.0) == ["b"]
    assert window.samples(15.0) == []


def test_a_window_that_overflows_keeps_the_newest() -> None:
    window: SlidingWindow[int] = SlidingWindow(10.0, 2)
    for sample in range(4):
        window.add(sample, 1.0)
    assert window.samples(1.0) == [2, 3]


@pytest.mark.parametrize(("seconds", "max_samples"), [(0.0, 1), (-1.0, 1), (1.0, 0)])
def test_a_window_needs_room(seconds: float, max_samples: int) -> None:
    with pytest.raises(ValueError, match=f"given {seconds}, {max_samples}"):
        SlidingWindow(seconds, max_samples)
