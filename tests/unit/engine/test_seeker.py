from collections.abc import Callable
from itertools import pairwise
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.seeker import ENOUGH, FORGET, HOLD, Seeker

LOW, HIGH, INTERVAL = 4, 50, 5.0
#: Slots -> streams a second.
Work = Callable[[int], float]


def flat(_: int) -> float:
    return 30.0


def crowded(slots: int) -> float:
    """Eight do most."""
    return 4.0 * slots if slots <= 8 else 32.0 * 8 / (8 + 0.2 * (slots - 8))


def roomy(slots: int) -> float:
    """The more the better."""
    return 2.0 * slots


def drive(
    work: Callable[[int, int], float],
    intervals: int,
    *,
    refused: float = 1.0,
    subject: Seeker | None = None,
    begin: int = 0,
) -> list[int]:
    """The limit after each interval; `refused` are turned away for each one served."""
    subject = subject or Seeker(LOW, INTERVAL)
    limits = [subject.limit(HIGH, begin * INTERVAL)]
    for turn in range(begin, begin + intervals):
        done = round(work(limits[-1], turn) * INTERVAL)
        for _ in range(done):
            subject.first_text(limits[-1])
        subject.shed(round(refused * done))
        limits.append(subject.limit(HIGH, (turn + 1) * INTERVAL))
    return limits


def steady(work: Work) -> Callable[[int, int], float]:
    return lambda slots, _: work(slots)


@pytest.mark.parametrize("work", [flat, crowded, roomy])
def test_it_rests_where_next_to_as_much_is_done_as_anywhere(work: Work) -> None:
    limits = drive(steady(work), 60)
    best = max(work(slots) for slots in range(LOW, HIGH + 1))
    rests = [a for a, b in pairwise(limits[30:]) if a == b]
    assert len(rests) >= 20
    assert all(work(slots) >= 0.9 * best for slots in rests)


def test_where_all_do_as_much_the_fewest_are_enough_and_where_more_do_more_all_are() -> None:
    assert drive(steady(flat), 40)[-1] == LOW
    assert drive(steady(roomy), 40)[-1] == HIGH


def test_tries_become_rare_while_none_gets_more_done() -> None:
    limits = drive(steady(crowded), 400)
    changes = [turn for turn in range(1, 400) if limits[turn] != limits[turn - 1]]
    assert len([turn for turn in changes if turn > 200]) <= 8  # there and back, in 1,000 s
    assert changes


def test_it_follows_when_more_become_better() -> None:
    limits = drive(lambda slots, turn: crowded(slots) if turn < 60 else roomy(slots), 300)
    assert max(limits[40:60]) <= 12
    assert limits[-1] >= 40


def test_half_of_the_capacity_gone_is_no_reason_to_move() -> None:
    limits = drive(lambda slots, turn: crowded(slots) / (1 if turn < 60 else 2), 120)
    assert {slots for slots in limits[61:] if slots > 14} == set()


@pytest.mark.parametrize("refused", [0.0, 0.09])
def test_while_next_to_nobody_is_turned_away_nothing_is_tried(refused: float) -> None:
    assert set(drive(steady(crowded), 60, refused=refused)) == {HIGH}


def test_what_was_found_serves_a_pause_and_is_forgotten_after_a_minute_without_pressure() -> None:
    subject = Seeker(LOW, INTERVAL)
    found = drive(steady(crowded), 30, subject=subject)[-1]
    assert found < HIGH
    assert subject.enough == found
    paused = drive(steady(crowded), FORGET - 2, refused=0.0, subject=subject, begin=30)
    assert set(paused) == {found}
    rested = drive(steady(crowded), 3, refused=0.0, subject=subject, begin=30 + FORGET - 2)
    assert rested[-1] == HIGH
    assert subject.enough is None


def test_an_interval_that_nobody_closed_in_time_says_nothing() -> None:
    subject = Seeker(LOW, INTERVAL)
    subject.limit(HIGH, 0.0)
    for turn in range(FORGET - 1):
        for _ in range(ENOUGH):
            subject.first_text(HIGH)
        subject.shed(ENOUGH)
        assert subject.limit(HIGH, 100.0 * (turn + 1)) == HIGH


def test_a_try_lasts_until_enough_streams_were_seen() -> None:
    slow = drive(lambda _slots, _turn: 4.0, 8)  # 20 an interval: five intervals, and one to settle
    assert set(slow[:6]) == {HIGH}
    assert slow[7] < HIGH


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(1, 60)), max_size=80)
)
def test_whatever_it_sees_it_keeps_its_bounds(seen: list[tuple[int, int, int]]) -> None:
    subject = Seeker(LOW, INTERVAL)
    for turn, (done, shed, allowed) in enumerate(seen):
        for _ in range(done):
            subject.first_text(min(allowed, HIGH))
        subject.shed(shed)
        limit = subject.limit(allowed, turn * INTERVAL)
        assert min(LOW, allowed) <= limit <= allowed


def test_a_walk_from_top_to_bottom_takes_two_minutes_at_most() -> None:
    limits = drive(steady(flat), 24)
    assert limits[-1] <= LOW + 1
    assert log(HIGH / LOW) / log(4 / 3) < 9  # steps of a quarter, two intervals each
    assert HOLD * INTERVAL == 60
