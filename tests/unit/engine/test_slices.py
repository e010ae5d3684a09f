import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.slices import SLICES, Slices


@given(st.lists(st.floats(0, 500), max_size=60), st.floats(0, 700))
def test_what_is_older_than_the_window_is_gone_and_what_is_younger_than_its_slices_is_there(
    times: list[float], look: float
) -> None:
    window: Slices[list[float]] = Slices(60, list)
    now = max([look, *times])
    for at in sorted(times):
        window.current(at).append(at)
    held = [at for each in window.live(now) for at in each]
    assert len(window.live(now)) <= SLICES
    assert all(at > now - 60 - 1e-6 for at in held)
    assert {at for at in times if at > now - 55 + 1e-6} <= set(held)
    assert held == sorted(held)


def test_it_needs_time_and_slices() -> None:
    with pytest.raises(ValueError, match="seconds > 0"):
        Slices(0, list)
    with pytest.raises(ValueError, match="slices >= 1"):
        Slices(1, list, 0)
