import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.cleanup import CleanupScheduler

GRACE = 1.0


def scheduler() -> CleanupScheduler[str, int]:
    return CleanupScheduler(GRACE)


def test_what_stays_abandoned_for_the_grace_is_named_once() -> None:
    subject = scheduler()
    seen = {"place": {7}}
    assert subject.sweep(seen, 0.0) == []
    assert subject.suspects == 1
    assert subject.sweep(seen, 0.9) == []
    assert subject.sweep(seen, 1.0) == [("place", 7)]
    assert subject.sweep({"place": set()}, 1.5) == []
    assert subject.suspects == 0


def test_what_was_owned_in_between_gets_its_whole_grace_again() -> None:
    subject = scheduler()
    subject.sweep({"place": {7}}, 0.0)
    subject.sweep({"place": set()}, 0.5)
    assert subject.sweep({"place": {7}}, 1.0) == []
    assert subject.sweep({"place": {7}}, 2.0) == [("place", 7)]


def test_kinds_do_not_mix() -> None:
    subject = scheduler()
    subject.sweep({"place": {7}}, 0.0)
    assert subject.sweep({"record": {7}}, 1.0) == []


def test_the_lag_is_how_late_the_latest_sweep_was() -> None:
    subject = scheduler()
    subject.sweep({"place": {1}}, 0.0)
    subject.sweep({"place": {1, 2}}, 0.5)
    subject.sweep({"place": {1, 2}}, 4.0)
    assert subject.lag_seconds == pytest.approx(3.0)
    subject.sweep({"place": {3}}, 4.5)
    assert subject.lag_seconds == 0.0


def test_no_grace_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0 s"):
        CleanupScheduler[str, int](0.0)


@given(st.lists(st.tuples(st.sets(st.integers(0, 5)), st.floats(0, 1)), max_size=40))
def test_nothing_that_lived_within_the_grace_is_ever_named(
    looks: list[tuple[set[int], float]],
) -> None:
    subject, now = scheduler(), 0.0
    lived: dict[int, float] = {}
    for abandoned, later in looks:
        now += later
        for id_ in set(range(6)) - abandoned:
            lived[id_] = now
        for _, id_ in subject.sweep({"place": abandoned}, now):
            assert id_ in abandoned
            assert now - lived.get(id_, -1.0) >= GRACE
