from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.pressure import (
    COOL_DOWN_SECONDS,
    FLOOR_SECONDS,
    RAISE_SECONDS,
    RENEW_SECONDS,
    SHED_SECONDS,
    SWEEP_SECONDS,
    TRY_SECONDS,
    Action,
    Evict,
    PressureLadder,
    Reading,
    Renew,
    Rung,
    Shed,
    Shrink,
)

BUDGET = 1_000
FLOOR = 4
UNKNOWN, LOW, NEAR, HIGH = 0, 500, 950, 1_100


@dataclass
class Climb:
    """A ladder that is read once a second, and everything that it did."""

    ladder: PressureLadder = field(default_factory=lambda: PressureLadder(FLOOR))
    limit: int = 50
    now: float = 0.0
    done: list[tuple[float, Action]] = field(default_factory=list)
    rungs: list[tuple[float, Rung]] = field(default_factory=list)
    renewal_seconds: float = 2.0
    _renewal_ends: float = float("inf")

    def read(self, *held: int, prefix_bytes: int = 300) -> list[Action]:
        before = len(self.done)
        for bytes_held in held:
            if self.now >= self._renewal_ends:
                self.ladder.renewed(self.now)
                self._renewal_ends = float("inf")
            reading = Reading(
                held=bytes_held, budget=BUDGET, prefix_bytes=prefix_bytes, limit=self.limit
            )
            for action in self.ladder.look(reading, self.now):
                self.done.append((self.now, action))
                if isinstance(action, Renew):
                    self._renewal_ends = self.now + self.renewal_seconds
            self.rungs.append((self.now, self.ladder.rung))
            self.now += 1.0
        return [action for _, action in self.done[before:]]

    def until(self, rung: Rung, held: int = HIGH) -> None:
        for _ in range(10_000):
            if self.ladder.rung is rung:
                return
            self.read(held)
        raise AssertionError(f"{rung} was never reached")

    def order(self) -> list[Rung]:
        """The rungs without repetition."""
        names = [rung for _, rung in self.rungs]
        return [rung for at, rung in enumerate(names) if at == 0 or names[at - 1] is not rung]


@pytest.mark.parametrize("held", [UNKNOWN, LOW, NEAR, BUDGET])
def test_without_pressure_nothing_is_done(held: int) -> None:
    climb = Climb()
    assert climb.read(*[held] * 2_000) == []
    assert climb.order() == [Rung.REST]
    assert climb.ladder.capped(50) == 50


def test_the_first_measure_gives_up_only_the_prefixes_that_are_too_many() -> None:
    assert Climb().read(HIGH) == [Evict(300 - (HIGH - 900))]
    assert Climb().read(HIGH, prefix_bytes=50) == [Evict(0)]


def test_eviction_that_helps_is_all_that_happens() -> None:
    climb = Climb()
    climb.read(HIGH, HIGH, *[LOW] * 100)
    assert [type(action) for _, action in climb.done] == [Evict]
    assert climb.order() == [Rung.EVICT, Rung.REST]


def test_near_the_budget_measures_stay_and_none_is_added() -> None:
    climb = Climb()
    climb.read(HIGH, *[NEAR] * 1_000)
    assert [type(action) for _, action in climb.done] == [Evict]
    assert climb.order() == [Rung.EVICT]


def test_pressure_that_returns_is_met_by_the_same_measure_first() -> None:
    climb = Climb()
    climb.read(HIGH, *[NEAR] * 10)
    assert [type(action) for action in climb.read(HIGH)] == [Evict]
    assert climb.ladder.rung is Rung.EVICT


def test_the_limit_is_halved_down_to_its_floor_before_anybody_is_turned_away() -> None:
    climb = Climb()
    climb.until(Rung.SHED)
    caps = [action.limit for _, action in climb.done if isinstance(action, Shrink)]
    assert caps == [25, 12, 6, 4]
    assert climb.order() == [Rung.EVICT, Rung.SHRINK, Rung.SHED]
    assert climb.ladder.capped(50) == FLOOR


def test_where_the_limit_is_whole_again_near_the_budget_one_eviction_leads_to_rest() -> None:
    climb = Climb(limit=8)
    climb.until(Rung.SHRINK)
    climb.until(Rung.EVICT, NEAR)
    assert climb.ladder.capped(8) == 8
    assert climb.done[-1] == (climb.now - 1, Evict(300 - (NEAR - 900)))
    assert climb.read(*[NEAR] * 100) == []
    assert climb.read(LOW) == []
    assert climb.ladder.rung is Rung.REST


def test_a_limit_below_the_floor_is_not_raised_to_it() -> None:
    climb = Climb(limit=2)
    climb.until(Rung.SHED)
    assert climb.ladder.capped(2) == 2


def test_the_limit_rises_again_step_by_step() -> None:
    climb = Climb()
    climb.until(Rung.SHED)
    climb.read(LOW)
    assert climb.ladder.shed_seconds(climb.now) == 0
    caps = []
    while climb.ladder.rung is not Rung.REST:
        climb.read(LOW)
        caps.append(climb.ladder.capped(50))
    assert sorted(set(caps)) == [4, 8, 16, 32, 50]
    assert len(caps) == 4 * RAISE_SECONDS


def test_near_the_budget_the_limit_finds_its_own_level() -> None:
    """Seven streams fit: neither stuck at the floor, nor shedding, however long it lasts."""
    climb = Climb()
    caps = []
    for _ in range(3_000):
        cap = climb.ladder.capped(50)
        climb.read(HIGH if cap > 7 else NEAR)
        caps.append(cap)
    assert Rung.SHED not in climb.order()
    assert set(caps[100:]) == {6, 12}


def test_shedding_says_how_long_and_ends_by_itself() -> None:
    climb = Climb()
    climb.until(Rung.SHED)
    began = climb.now - 1
    assert climb.done[-1][1] == Shed(SHED_SECONDS)
    assert climb.ladder.shed_seconds(began + 5) == SHED_SECONDS - 5
    assert climb.ladder.shed_seconds(began + SHED_SECONDS) == 0  # though nobody read since


def test_shedding_that_does_not_help_ends_in_a_renewal() -> None:
    climb = Climb()
    climb.until(Rung.RENEW)
    assert climb.done[-1][1] == Renew()
    climb.read(HIGH, HIGH, LOW)
    assert climb.ladder.rung is Rung.SHRINK
    climb.until(Rung.REST, LOW)


def test_shedding_during_which_nothing_is_known_ends_without_a_renewal() -> None:
    climb = Climb()
    climb.until(Rung.SHED)
    climb.read(*[UNKNOWN] * 30)
    assert climb.ladder.rung is Rung.SHRINK
    assert not [1 for _, action in climb.done if isinstance(action, Renew)]


def test_a_renewal_that_never_ends_does_not_hold_the_ladder() -> None:
    climb = Climb(renewal_seconds=float("inf"))
    climb.until(Rung.RENEW)
    climb.read(*[HIGH] * int(RENEW_SECONDS + 1))
    assert climb.ladder.rung is not Rung.RENEW


def test_a_budget_that_a_fresh_process_cannot_keep_is_unreachable_and_costs_nobody() -> None:
    climb = Climb()
    climb.until(Rung.RENEW)
    climb.until(Rung.UNREACHABLE)
    assert climb.ladder.capped(50) == 50
    assert climb.ladder.shed_seconds(climb.now) == 0
    measures = climb.read(*[HIGH] * 500)
    assert set(measures) == {Evict(0)}
    assert len(measures) <= 500 / SWEEP_SECONDS + 1


def test_after_the_cool_down_the_ladder_tries_again() -> None:
    climb = Climb()
    climb.until(Rung.UNREACHABLE)
    climb.until(Rung.SHED)
    renewed = [at for at, action in climb.done if isinstance(action, Renew)]
    assert climb.now - renewed[0] > COOL_DOWN_SECONDS


def test_an_unreachable_budget_is_left_as_soon_as_it_is_kept() -> None:
    climb = Climb()
    climb.until(Rung.UNREACHABLE)
    climb.read(LOW)
    assert climb.ladder.rung is Rung.REST


def test_pressure_that_comes_and_goes_at_the_floor_does_not_last() -> None:
    climb = Climb()
    climb.until(Rung.SHRINK)
    while climb.ladder.capped(50) > FLOOR:
        climb.read(HIGH)
    climb.read(*[NEAR, HIGH] * int(FLOOR_SECONDS / 2 + TRY_SECONDS))
    assert climb.ladder.rung is Rung.SHED


def test_a_floor_that_serves_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, given 0"):
        PressureLadder(0)


#: Stretches of one reading, or of two in turn: what steady, sawing and silent memories look like.
stretches = st.lists(
    st.tuples(
        st.sampled_from([UNKNOWN, LOW, 900, NEAR, BUDGET, HIGH, 9_999]),
        st.sampled_from([UNKNOWN, LOW, NEAR, HIGH]),
        st.integers(1, 400),
    ),
    min_size=1,
    max_size=12,
)


def play(given_stretches: Iterable[tuple[int, int, int]], limit: int, renewal: float) -> Climb:
    climb = Climb(limit=limit, renewal_seconds=renewal)
    for one, other, count in given_stretches:
        climb.read(*[one, other] * (count // 2), one)
    return climb


@given(stretches, st.integers(1, 200), st.sampled_from([0.0, 5.0, 300.0, float("inf")]))
def test_whatever_is_read_shedding_and_renewing_are_rare_and_measures_are_spaced(
    readings: list[tuple[int, int, int]], limit: int, renewal: float
) -> None:
    climb = play(readings, limit, renewal)
    for kind, apart in (
        (Evict, TRY_SECONDS),
        (Shrink, TRY_SECONDS),
        (Shed, COOL_DOWN_SECONDS),
        (Renew, COOL_DOWN_SECONDS),
    ):
        times = [at for at, action in climb.done if isinstance(action, kind)]
        assert all(later - at >= apart for at, later in pairwise(times))
    shed = [at for at, rung in climb.rungs if rung is Rung.SHED]
    for at in shed:
        window = [other for other in shed if at <= other < at + COOL_DOWN_SECONDS]
        assert len(window) <= SHED_SECONDS


@given(stretches, st.integers(1, 200))
def test_whatever_is_read_the_limit_stays_between_floor_and_limit(
    readings: list[tuple[int, int, int]], limit: int
) -> None:
    climb = Climb(limit=limit)
    for one, other, count in readings:
        for held in (one, other) * (count // 2):
            climb.read(held)
            assert min(FLOOR, limit) <= climb.ladder.capped(limit) <= limit


@given(stretches, st.integers(1, 200))
def test_whatever_was_read_low_readings_bring_the_ladder_to_rest(
    readings: list[tuple[int, int, int]], limit: int
) -> None:
    climb = play(readings, limit, 2.0)
    doublings = 6  # from 4 to 200
    climb.read(*[LOW] * int(SHED_SECONDS + (doublings + 1) * RAISE_SECONDS))
    assert climb.ladder.rung is Rung.REST
    assert climb.ladder.capped(limit) == limit


@given(stretches)
def test_whatever_is_read_silence_takes_no_measure(readings: list[tuple[int, int, int]]) -> None:
    climb = play(readings, 50, 2.0)
    if climb.ladder.rung is not Rung.SHED:  # whose end may be a renewal
        assert climb.read(*[UNKNOWN] * 1_500) == []
