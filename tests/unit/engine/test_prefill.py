import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.prefill import (
    GATHER_SECONDS,
    MAX_CHUNK,
    SUCCESSORS_SECONDS,
    PrefillPace,
    chunk,
)


@pytest.mark.parametrize(
    ("unread", "budget", "expected"),
    [
        ([], 64, 1),
        ([50], 64, 50),
        ([600], 64, 64),
        ([50, 60, 70], 512, 70),
        ([10, 600, 600], 110, 50),
        ([5, 5, 5], 2, 1),
    ],
)
def test_rows_share_the_budget(unread: list[int], budget: int, expected: int) -> None:
    assert chunk(unread, budget) == expected


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=16), st.integers(16, MAX_CHUNK))
def test_the_budget_holds_and_is_used_up(unread: list[int], budget: int) -> None:
    size = chunk(unread, budget)
    assert sum(min(size, tokens) for tokens in unread) <= budget
    everything_read = size >= max(unread)
    assert everything_read or sum(min(size + 1, tokens) for tokens in unread) > budget


def test_with_nothing_decoding_the_turn_is_as_long_as_it_may_be() -> None:
    assert PrefillPace(floor=64).budget(decoding=0) == MAX_CHUNK


@pytest.mark.parametrize(
    ("tokens_per_second", "expected"), [(None, 64), (100, 64), (600, 120), (40_000, MAX_CHUNK)]
)
def test_running_streams_wait_no_longer_than_the_gap(
    tokens_per_second: float | None, expected: int
) -> None:
    assert PrefillPace(64, tokens_per_second).budget(decoding=1) == expected


@pytest.mark.parametrize(
    ("decoding", "newcomers", "expected"),
    [(1, 0, 64), (4, 4, 64), (4, 1, 64), (1, 3, 192), (2, 3, 96), (3, 4, 85), (1, 100, MAX_CHUNK)],
)
def test_the_gap_grows_with_the_newcomers_that_each_running_stream_has(
    decoding: int, newcomers: int, expected: int
) -> None:
    assert PrefillPace(64, 100).budget(decoding=decoding, newcomers=newcomers) == expected


@pytest.mark.parametrize(
    ("tokens_per_second", "tokens", "more", "expected"),
    [
        (None, 500, True, 0.0),  # how long reading takes is not known yet
        (50_000, 50, False, 0.0001),
        (250, 10, False, 0.004),
        (250, 500, False, GATHER_SECONDS),
        (250, 500, True, SUCCESSORS_SECONDS),
        (250, 10, True, 0.004),
    ],
)
def test_newcomers_wait_for_others_a_small_part_of_the_time_that_they_take(
    tokens_per_second: float | None, tokens: int, more: bool, expected: float
) -> None:
    pace = PrefillPace(64, tokens_per_second)
    assert pace.lingers(tokens, more=more) == pytest.approx(expected)


def test_the_pace_follows_the_machine() -> None:
    pace = PrefillPace(floor=64)
    pace.observe(512, 1.0)
    assert pace.tokens_per_second == 512
    for _ in range(20):
        pace.observe(512, 4.0)
    assert pace.tokens_per_second == pytest.approx(128, rel=0.01)


@pytest.mark.parametrize(("tokens", "seconds"), [(1, 1.0), (512, 0.0)])
def test_turns_that_say_nothing_are_not_learnt_from(tokens: int, seconds: float) -> None:
    pace = PrefillPace(64, 1000.0)
    pace.observe(tokens, seconds)
    assert pace.tokens_per_second == 1000.0
