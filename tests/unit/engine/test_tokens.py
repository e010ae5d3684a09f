from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.tokens import REMEMBERED_SECONDS, TELLING_TOKENS, TokenBudget

TARGET = 0.5


def measured(speed: float) -> TokenBudget:
    """A budget that has seen prompts read at this speed."""
    budget = TokenBudget(TARGET)
    budget.started(0, TELLING_TOKENS, 10.0)
    budget.progress(0, 0, 10.0 + TELLING_TOKENS / speed)
    budget.ended(0, 20.0)
    return budget


def test_while_the_speed_is_not_known_nothing_is_held_back() -> None:
    budget = TokenBudget(TARGET)
    budget.started(1, 10**9, 0.0)
    assert budget.tokens_per_second is None
    assert (budget.bound(0.0), budget.fitting_seconds(10**9, 0.0)) == (inf, 0.0)
    assert budget.fits(10**9, 0.0)


def test_the_bound_is_the_target_times_the_measured_speed() -> None:
    budget = measured(1000.0)
    assert budget.tokens_per_second == pytest.approx(1000)
    assert budget.bound(20.0) == pytest.approx(500)


def test_a_prompt_waits_until_it_fits_beside_those_that_are_read() -> None:
    budget = measured(1000.0)
    budget.started(1, 400, 20.0)
    assert budget.fits(99, 20.0)
    assert not budget.fits(101, 20.0)
    assert not budget.fits(50, 20.0, already=51)
    budget.progress(1, 100, 20.1)
    assert budget.fits(101, 20.1)


def test_a_prompt_longer_than_the_bound_begins_when_nothing_else_is_read() -> None:
    budget = measured(1000.0)
    assert budget.fits(10_000, 20.0)
    budget.started(1, 10, 20.0)
    assert not budget.fits(10_000, 20.0)


def test_what_first_tokens_take_beyond_the_reading_comes_off_the_target() -> None:
    budget = measured(1000.0)
    for stream_id in range(1, 21):
        budget.started(stream_id, 100, 20.0)  # 0.1 s of reading each, one after the other
        budget.first_text(stream_id, 0.1 * stream_id + 0.2, 20.0)
    assert budget.beyond_seconds(20.0) == pytest.approx(0.2)
    assert budget.bound(20.0) == pytest.approx(300)


def test_a_first_token_that_came_sooner_than_read_does_not_stretch_the_target() -> None:
    """Its prompt was known: the next one's may not be."""
    budget = measured(1000.0)
    budget.started(1, 400, 20.0)
    budget.first_text(1, 0.01, 20.0)
    assert budget.bound(20.0) == pytest.approx(500)


def test_nothing_is_learnt_where_nothing_was_expected_or_told() -> None:
    budget = TokenBudget(TARGET)
    budget.started(1, 100, 0.0)
    budget.first_text(1, 9.0, 9.0)  # it started when the speed was not known
    budget = measured(1000.0)
    budget.first_text(7, 9.0, 20.0)
    budget.started(2, 100, 20.0)
    budget.first_text(2, inf, 20.0)
    budget.started(3, 100, 20.0)
    budget.ended(3, 20.0)
    budget.first_text(3, 9.0, 20.0)
    assert budget.beyond_seconds(20.0) == 0.0


def test_a_stall_that_is_over_is_forgotten_and_meanwhile_one_prompt_may_begin() -> None:
    budget = measured(1000.0)
    budget.started(1, 100, 20.0)
    budget.first_text(1, 5.0, 25.0)
    budget.ended(1, 25.0)
    assert budget.bound(25.0) == 0.0
    assert budget.fits(400, 25.0)
    assert budget.bound(25.0 + REMEMBERED_SECONDS) == pytest.approx(500)


def test_a_prompt_fits_once_those_before_it_are_read_down_to_the_bound() -> None:
    budget = measured(1000.0)
    budget.started(1, 400, 20.0)
    assert budget.fitting_seconds(100, 20.0) == pytest.approx(0.0)
    assert budget.fitting_seconds(300, 20.0) == pytest.approx(0.2)
    assert budget.fitting_seconds(2000, 20.0) == pytest.approx(0.4)  # when nothing else is read


def test_time_in_which_nothing_is_to_be_read_does_not_count() -> None:
    budget = TokenBudget(TARGET)
    for turn in range(2):
        start = 1000.0 * turn
        budget.started(turn, TELLING_TOKENS, start)
        budget.progress(turn, 0, start + TELLING_TOKENS / 1000)
    assert budget.tokens_per_second == pytest.approx(1000)


def test_kept_tokens_and_those_of_a_new_beginning_are_not_read() -> None:
    budget = TokenBudget(TARGET)
    budget.started(1, 1000, 0.0)
    budget.progress(1, 0, 1.0, cached=1000 - TELLING_TOKENS)
    assert budget.tokens_per_second == pytest.approx(TELLING_TOKENS)
    budget.started(2, 1000, 1.0)
    budget.progress(2, 500, 1.1)
    known = budget.tokens_per_second
    budget.progress(2, 900, 1.2)  # its process is gone, another began anew
    assert (budget.outstanding, budget.tokens_per_second) == (900, known)


def test_a_slow_machine_shows_after_a_second_and_a_change_is_followed() -> None:
    budget = TokenBudget(TARGET)
    budget.started(1, 1000, 0.0)
    budget.progress(1, 990, 1.0)
    assert budget.tokens_per_second == pytest.approx(10)
    for step in range(1, 12):
        budget.progress(1, 990 - 20 * step, 1.0 + step)
    assert budget.tokens_per_second == pytest.approx(20, rel=0.05)


def test_the_chunks_of_one_step_arrive_together_and_are_one_measurement() -> None:
    """They are microseconds apart: taken one by one they would be millions a second."""
    budget = TokenBudget(TARGET)
    for stream_id in range(8):
        budget.started(stream_id, 1000, 0.0)
    for step in range(1, 6):
        for stream_id in range(8):
            at = 0.2 * step + 1e-6 * stream_id
            budget.progress(stream_id, 1000 - 200 * step, at)
    assert budget.tokens_per_second == pytest.approx(8000, rel=0.5)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["started", "progress", "ended"]),
            st.integers(0, 4),
            st.integers(0, 2000),
            st.floats(0, 2),
        ),
        max_size=60,
    )
)
def test_whatever_happens_the_account_is_that_of_the_streams(
    events: list[tuple[str, int, int, float]],
) -> None:
    budget, unread, now = TokenBudget(TARGET), dict[int, int](), 0.0
    for kind, stream_id, tokens, later in events:
        now += later
        if kind == "started":
            budget.started(stream_id, tokens, now)
            unread[stream_id] = tokens
        elif kind == "progress":
            budget.progress(stream_id, tokens, now)
            if unread.get(stream_id):
                unread[stream_id] = tokens
        else:
            budget.ended(stream_id, now)
            unread[stream_id] = 0
        assert budget.outstanding == sum(unread.values())
        assert budget.bound(now) >= 0
        assert budget.outstanding or budget.fits(10**9, now)
