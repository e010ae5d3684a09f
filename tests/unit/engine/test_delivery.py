"""What a file may do to a share, by its generation."""

from hypothesis import given
from hypothesis import strategies as st

from engine.core.delivery import Served, follow, start
from engine.core.flags import FlagState, assigned

percentages = st.floats(0, 100)
states = st.builds(FlagState, percentages, st.sampled_from(["a", "b"]))
generations = st.integers(0, 5)
files = st.lists(st.tuples(states, generations), max_size=12)


def run(first: FlagState, changes: list[tuple[FlagState, int]]) -> list[tuple[Served, Served, int]]:
    """What served before and after each file, and how its generation compares to ours."""
    served, generation, steps = start(first), 2, []
    for state, given_generation in changes:
        after = follow(served, state, from_generation=generation, to_generation=given_generation)
        steps.append((served, after, given_generation - generation))
        served, generation = after, max(generation, given_generation)
    return steps


@given(states, files, st.text(max_size=8))
def test_a_stale_file_never_brings_a_key_in(
    first: FlagState, changes: list[tuple[FlagState, int]], key: str
) -> None:
    for before, after, newer in run(first, changes):
        if newer < 0:
            was = assigned(before.state.salt, key, before.state.percentage)
            now = assigned(after.state.salt, key, after.state.percentage)
            assert was or not now


@given(states, files)
def test_every_file_may_lower_a_share(
    first: FlagState, changes: list[tuple[FlagState, int]]
) -> None:
    for (_, after, _), (asked, _) in zip(run(first, changes), changes, strict=True):
        assert after.state.percentage <= asked.percentage


@given(states, files)
def test_only_a_file_of_the_same_generation_makes_a_share_unmanaged(
    first: FlagState, changes: list[tuple[FlagState, int]]
) -> None:
    for before, after, newer in run(first, changes):
        if after.unmanaged:
            assert newer == 0 or (newer < 0 and before.unmanaged)
        assert 0 <= after.delivered <= 100


def served(percentage: float, *, delivered: float, salt: str = "a") -> Served:
    return Served(FlagState(percentage, salt), delivered)


def test_a_raise_by_hand_serves_as_unmanaged_until_the_rollout_brings_it() -> None:
    by_hand = follow(served(1, delivered=1), FlagState(10, "a"), from_generation=3, to_generation=3)
    assert by_hand == served(10, delivered=1)
    assert by_hand.unmanaged
    assert not follow(by_hand, FlagState(10, "a"), from_generation=3, to_generation=4).unmanaged
    assert not follow(by_hand, FlagState(1, "a"), from_generation=3, to_generation=3).unmanaged


def test_lowered_and_raised_again_by_hand_is_unmanaged() -> None:
    lower = follow(served(10, delivered=10), FlagState(1, "a"), from_generation=3, to_generation=3)
    assert not lower.unmanaged
    assert follow(lower, FlagState(10, "a"), from_generation=3, to_generation=3).unmanaged


def test_other_keys_at_the_same_share_are_a_raise_by_hand() -> None:
    other = follow(served(10, delivered=10), FlagState(10, "b"), from_generation=3, to_generation=3)
    assert other.unmanaged


def test_a_stale_file_lowers_and_keeps_the_salt() -> None:
    stale = follow(served(10, delivered=10), FlagState(1, "b"), from_generation=3, to_generation=2)
    assert stale == served(1, delivered=1)
