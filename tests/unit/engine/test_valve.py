import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.core.valve import Valve


def filled(mark: int, tokens: int) -> tuple[Valve, list[bool]]:
    valve = Valve(mark)
    return valve, [valve.put() for _ in range(tokens)]


def test_it_closes_once_at_the_mark_and_not_before() -> None:
    valve, closed = filled(16, 18)
    assert closed == [False] * 15 + [True, False, False]
    assert (valve.waiting, valve.closed) == (18, True)


def test_it_opens_once_below_a_quarter_of_the_mark() -> None:
    valve, _ = filled(16, 16)
    assert [valve.take(1) for _ in range(16)] == [False] * 12 + [True, False, False, False]
    assert not valve.closed


def test_below_the_mark_a_client_may_be_as_slow_as_it_likes() -> None:
    valve, closed = filled(16, 15)
    assert not any(closed)
    assert not valve.take(15)


def test_what_does_not_wait_cannot_be_taken() -> None:
    valve, _ = filled(16, 2)
    with pytest.raises(ValueError, match="3 tokens taken where 2 wait"):
        valve.take(3)


def test_a_mark_without_room_below_its_quarter_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 4 tokens, given 3"):
        Valve(3)


class SlowClient(RuleBasedStateMachine):
    """A runtime that obeys the valve, late by the tokens under way, and a client of any pace."""

    MARK = 16
    UNDER_WAY = 3

    def __init__(self) -> None:
        super().__init__()
        self.valve = Valve(self.MARK)
        self.runs = True
        self.under_way = 0
        self.taken_since_closed = 0

    @precondition(lambda self: self.runs)
    @rule()
    def token(self) -> None:
        if self.valve.put():
            self.runs, self.under_way, self.taken_since_closed = False, self.UNDER_WAY, 0

    @precondition(lambda self: not self.runs and self.under_way)
    @rule()
    def late_token(self) -> None:
        assert not self.valve.put()
        self.under_way -= 1

    @precondition(lambda self: self.valve.waiting)
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(1, self.valve.waiting))
        self.taken_since_closed += count
        if self.valve.take(count):
            assert self.taken_since_closed > self.MARK - self.MARK // 4
            self.runs = True

    @invariant()
    def what_waits_is_bounded(self) -> None:
        assert 0 <= self.valve.waiting <= self.MARK + self.UNDER_WAY

    @invariant()
    def the_runtime_was_told_what_the_valve_says(self) -> None:
        assert self.valve.closed is not self.runs

    @invariant()
    def a_stream_never_stands_still_with_an_idle_client(self) -> None:
        assert self.runs or 4 * self.valve.waiting >= self.MARK


TestSlowClient = SlowClient.TestCase
