from collections import deque
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.tenants import FORGOTTEN_BELOW, TenantBudgets

LIMIT = 20
DECAY = 60.0


def budgets() -> TenantBudgets:
    return TenantBudgets(0.5, 0.25, DECAY)


def hold(subject: TenantBudgets, tenant: str, slots: int, now: float) -> None:
    for _ in range(slots):
        subject.started(tenant, now)


def test_a_newcomer_goes_before_a_tenant_that_holds_its_burst() -> None:
    subject = budgets()
    hold(subject, "flood", 10, 0.0)
    assert subject.next({"flood": 0.0, "new": 5.0}, LIMIT, 5.0) == "new"
    assert subject.ahead("new", ["flood"] * 50, LIMIT, 5.0) == 0
    assert subject.ahead("flood", ["flood"] * 50 + ["new"], LIMIT, 5.0) == 51


def test_within_the_budgets_who_came_first_goes_first() -> None:
    subject = budgets()
    hold(subject, "some", 3, 0.0)
    assert subject.next({"some": 1.0, "none": 2.0}, LIMIT, 5.0) == "some"


def test_who_held_much_for_long_yields_even_when_it_holds_little_now() -> None:
    subject = budgets()
    hold(subject, "busy", 10, 0.0)
    for _ in range(10):
        subject.released("busy", 300.0)
    assert subject.average("busy", 300.0) == pytest.approx(10, rel=0.01)
    assert subject.next({"busy": 300.0, "late": 301.0}, LIMIT, 301.0) == "late"


def test_the_sustained_budget_decays_back() -> None:
    subject = budgets()
    hold(subject, "busy", 10, 0.0)
    for _ in range(10):
        subject.released("busy", 300.0)
    assert subject.standing("busy", LIMIT, 300.0) == 1
    assert subject.standing("busy", LIMIT, 300.0 + DECAY) == 0
    assert subject.average("busy", 300.0 + DECAY) == pytest.approx(10 / 2.718, rel=0.01)


def test_a_record_goes_when_it_says_nothing_and_not_before() -> None:
    subject = budgets()
    subject.started("brief", 0.0)
    subject.released("brief", 0.1)
    assert len(subject) == 0
    hold(subject, "busy", 10, 0.0)
    subject.released("busy", 10.0)
    for _ in range(9):
        subject.released("busy", 10.0)
    assert subject.forget_idle(20.0) == 0
    assert len(subject) == 1
    assert subject.forget_idle(20.0 + 10 * DECAY) == 1
    assert len(subject) == 0


def test_a_slot_that_was_never_held_is_not_given_back() -> None:
    subject = budgets()
    subject.released("nobody", 1.0)
    subject.started("one", 1.0)
    subject.released("one", 2.0)
    subject.released("one", 2.0)
    assert subject.held("one") == 0


@pytest.mark.parametrize("bad", [(0.0, 0.5, 1.0), (0.5, 1.5, 1.0), (0.5, 0.5, 0.0)])
def test_budgets_that_cannot_serve_are_refused(bad: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="shares must be"):
        TenantBudgets(*bad)


@settings(deadline=None, max_examples=30)
@given(
    tenants=st.integers(2, 8),
    limit=st.integers(1, 12),
    hold_seconds=st.floats(0.05, 20),
    seed=st.integers(0, 1000),
)
def test_no_tenant_with_demand_starves(
    tenants: int, limit: int, hold_seconds: float, seed: int
) -> None:
    """All want more than there is, always: each gets a turn within a bounded time."""
    random = Random(seed)  # noqa: S311 - times, not a secret
    subject, now = budgets(), 0.0
    names = [f"tenant {number}" for number in range(tenants)]
    oldest = dict.fromkeys(names, 0.0)  # each always has one that waits
    running: deque[tuple[float, str]] = deque()
    last = dict.fromkeys(names, 0.0)
    longest = 0.0
    while now < 20 * DECAY:
        while len(running) < limit:
            name = subject.next(oldest, limit, now)
            subject.started(name, now)
            longest = max(longest, now - last[name])
            last[name] = oldest[name] = now
            running.append((now + hold_seconds * random.uniform(0.5, 1.5), name))
        running = deque(sorted(running))
        now, name = running.popleft()
        subject.released(name, now)
    # Until its average has decayed and those that came before it are served.
    bound = 4 * DECAY + 2 * tenants * hold_seconds
    assert max(longest, *(now - at for at in last.values())) <= bound


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.floats(0, 30)), max_size=120))
def test_memory_is_bounded_by_the_tenants_that_live_or_lived_lately(
    events: list[tuple[int, bool, float]],
) -> None:
    subject, held, now = budgets(), dict[str, int](), 0.0
    for number, starts, later in events:
        now, name = now + later, str(number)
        if starts:
            subject.started(name, now)
            held[name] = held.get(name, 0) + 1
        elif held.get(name):
            subject.released(name, now)
            held[name] -= 1
        subject.forget_idle(now)
        averages = [subject.average(str(one), now) for one in range(31)]
        assert len(subject) <= sum(held.values()) + sum(averages) / FORGOTTEN_BELOW
        assert all(subject.held(name) == count for name, count in held.items())
        assert all(0 <= average <= max(1, len(events)) for average in averages)
    for name, count in held.items():
        for _ in range(count):
            subject.released(name, now)
    subject.forget_idle(now + 20 * DECAY)
    assert len(subject) == 0
