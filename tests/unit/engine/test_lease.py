"""How long an engine may serve unwatched, whatever its clocks do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.lease import CANARY, EARLY, FULL, MID, Lease, bound

# Whole seconds, which add up exactly: rounding is not what is tested here.
seconds = st.integers(1, 10_000).map(float)
times = st.integers(0, 10**9).map(float)
spans = st.integers(0, 10**6).map(float)
jumps = st.lists(st.tuples(spans, st.integers(-(10**6), 10**6).map(float)), max_size=8)


@given(seconds, times, times, jumps)
def test_no_setting_of_the_system_clock_prolongs_a_lease(
    granted: float, now: float, wall: float, moves: list[tuple[float, float]]
) -> None:
    lease, begun = Lease.grant(granted, now=now, wall=wall), now
    for passed, jump in moves:
        now, wall = now + passed, wall + passed + jump
        assert lease.lapsed(now=now, wall=wall) or now < begun + granted


@given(seconds, times, times, spans, times)
def test_time_in_which_nothing_ran_counts(
    granted: float, now: float, wall: float, away: float, other_now: float
) -> None:
    """A new process has another clock, or the machine slept: the system's clock went on."""
    lease = Lease.grant(granted, now=now, wall=wall)
    later = wall + away
    again = Lease.resume(lease.seconds, lease.expires_at, now=other_now, wall=later)
    over = later >= lease.expires_at
    assert lease.lapsed(now=now, wall=later) == over
    assert again.lapsed(now=other_now, wall=later) == over


@given(seconds, times, times, spans)
def test_a_restart_after_the_clock_was_set_back_leaves_no_more_than_was_granted(
    granted: float, wall: float, now: float, back: float
) -> None:
    lease = Lease.grant(granted, now=now, wall=wall)
    again = Lease.resume(lease.seconds, lease.expires_at, now=0.0, wall=wall - back)
    assert again.deadline <= granted
    assert again.lapsed(now=granted, wall=wall - back)


@given(seconds, seconds, spans)
def test_a_lease_that_is_shortened_never_ends_later(
    granted: float, most: float, passed: float
) -> None:
    lease = Lease.grant(granted, now=0.0, wall=5.0)
    shorter = lease.at_most(most, now=passed, wall=5.0 + passed)
    assert shorter.deadline == min(granted, passed + most)


def test_a_lease_holds_until_its_end_and_not_longer() -> None:
    lease = Lease.grant(10.0, now=100.0, wall=5_000.0)
    assert not lease.lapsed(now=109.9, wall=5_009.9)
    assert lease.lapsed(now=110.0, wall=5_009.9)
    assert lease.lapsed(now=109.9, wall=5_010.0)


SECONDS = {CANARY: 900.0, EARLY: 800.0, MID: 1_800.0}


@pytest.mark.parametrize(
    ("stages", "longest"),
    [
        ([], None),
        ([CANARY], 900.0),
        ([MID, EARLY], 800.0),
        ([FULL], 1_800.0),
        ([FULL, CANARY], 900.0),
    ],
)
def test_the_strictest_stage_bounds_the_lease(stages: list[str], longest: float | None) -> None:
    assert bound(stages, SECONDS) == longest
