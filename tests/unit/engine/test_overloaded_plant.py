"""The governor as a whole, on a model of a batch at twice what it can do."""

from functools import cache
from itertools import pairwise

import pytest
from overloaded_plant import HIGH, LOW, TARGET, TINY, Machine, Overload, capacity

MACHINES = {
    "tiny": TINY,
    "slow to read": Machine(turn=0.005, read=200e-6, write=1e-3),
    "slow to write": Machine(turn=0.003, read=45e-6, write=2e-3),
    "slow to turn": Machine(turn=0.030, read=20e-6, write=1e-4),
    "crowded": Machine(turn=0.003, read=30e-6, write=250e-6, room=8, crowding=0.03),
}
STATIC = (4, 8, 12, 16, 32, 64)
#: When half of the capacity goes, and when the run ends.
CHANGE, END = 110, 200
#: Seconds after a change in which the limit settles.
SETTLING = 60


@cache
def halved(name: str) -> Overload:
    """A machine at twice its capacity, of which half goes on the way."""
    machine = MACHINES[name]
    plant = Overload(
        machine, 2 * capacity(machine), slowness=lambda now: 1.0 if now < CHANGE else 2.0
    )
    return plant.run(END)


@pytest.mark.parametrize("name", MACHINES)
def test_at_twice_its_capacity_what_it_does_is_in_time_also_when_half_of_it_goes(name: str) -> None:
    plant, full = halved(name), capacity(MACHINES[name])
    assert plant.goodput(10, CHANGE) >= 0.9 * full
    assert plant.goodput(CHANGE, CHANGE + 20) >= 0.7 * full / 2  # while it finds out
    assert plant.goodput(CHANGE + 20, END) >= 0.85 * full / 2


@pytest.mark.parametrize("name", MACHINES)
def test_the_limit_settles_before_and_after_half_of_the_capacity_goes(name: str) -> None:
    plant = halved(name)
    assert all(LOW <= limit <= HIGH for limit in plant.limits)
    for settled in (plant.allowed[SETTLING:CHANGE], plant.allowed[CHANGE + SETTLING : END]):
        assert max(settled) - min(settled) <= 4
    # Of those, fewer are tried now and then, and rarely once that has brought nothing.
    tried = [b != a for a, b in pairwise(plant.limits[SETTLING:CHANGE])]
    assert sum(tried) <= 6
    assert plant.governor.trouble is None


@pytest.mark.parametrize("slowness", [1.0, 2.0])
@pytest.mark.parametrize("name", ["tiny", "slow to turn", "crowded"])
def test_no_static_limit_is_much_better(name: str, slowness: float) -> None:
    machine = MACHINES[name]
    rate = 2 * capacity(machine)
    static = [Overload(machine, rate, lambda _: slowness, limit).run(30) for limit in STATIC]
    best = max(one.goodput(10, 30) for one in static)
    governed = Overload(machine, rate, lambda _: slowness).run(100)
    assert governed.goodput(60, 100) >= 0.95 * best


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_below_its_capacity_next_to_nobody_is_turned_away_or_late(share: float) -> None:
    rate = share * capacity(TINY)
    plant = Overload(TINY, rate).run(60)
    arrived = sum(10 <= at < 60 for at, _ in plant.firsts)
    assert plant.goodput(10, 60) >= 0.98 * arrived / 50
    assert arrived / 50 >= 0.9 * rate


def test_without_the_governor_nobody_is_in_time() -> None:
    plant = Overload(TINY, 2 * capacity(TINY), governed=False).run(30)
    assert plant.goodput(10, 30) == 0
    assert min(waited for arrived, waited in plant.firsts if arrived > 10) > TARGET
