from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.admission import AdmissionQueue, Admit, Decision, Queue, Reject, Ticket
from engine.core.forecast import REMEMBERED_SECONDS, Forecast
from engine.core.guard import GovernorGuard
from engine.core.tenants import TenantBudgets

TARGET = 0.5
FAR = 1e9


def ticket(
    stream_id: int,
    arrived: float = 0.0,
    *,
    tokens: int = 10,
    tenant: str = "one",
    governed: bool = True,
    pipeline: bool = False,
) -> Ticket:
    return Ticket(stream_id, arrived, FAR, tokens, pipeline, tenant, governed)


def guard() -> GovernorGuard:
    return GovernorGuard(TARGET, TenantBudgets(0.5, 0.25, 60.0))


def queue(subject: GovernorGuard, limit: int = 1, capacity: int = 200) -> AdmissionQueue:
    return AdmissionQueue(limit, capacity, 0.0, guard=subject)


def taught(hold: float, first: float = 0.0, *, now: float = 0.0) -> GovernorGuard:
    """A guard that has seen streams hold a slot and wait for their first text so long."""
    subject = guard()
    for stream_id in range(-100, 0):
        subject.started(ticket(stream_id, tokens=0), now - hold)
        subject.released(stream_id, now)
        subject.forecast.first_text(first, now)
    return subject


def read_a_thousand_in_a_second(subject: GovernorGuard) -> None:
    """So that at most 500 tokens are outstanding."""
    subject.tokens.started(-1, 1000, 0.0)
    subject.tokens.progress(-1, 0, 1.0)


def busy(subject: GovernorGuard, limit: int, capacity: int = 200) -> AdmissionQueue:
    """A queue whose slots are all taken at 0."""
    admission = queue(subject, limit, capacity)
    for n in range(limit):
        assert admission.offer(ticket(1000 + n), 0.0) == Admit()
    return admission


def test_little_s_law_tells_when_a_slot_is_free() -> None:
    forecast = taught(hold=2.0).forecast
    assert forecast.slot_seconds(0, running=10, limit=10) == pytest.approx(0.2)
    assert forecast.slot_seconds(9, running=10, limit=10) == pytest.approx(2.0)
    assert forecast.slot_seconds(0, running=10, limit=5) == pytest.approx(1.2)


def test_what_is_not_known_is_not_feared() -> None:
    forecast = Forecast()
    assert forecast.slot_seconds(100, running=50, limit=50) == 0.0
    assert forecast.first_text_seconds(5.0) == 0.0
    forecast.released(7, 1.0)
    assert forecast.hold_seconds is None


def test_a_slow_first_text_is_forgotten_after_a_while() -> None:
    forecast = Forecast()
    forecast.first_text(3.0, 0.0)
    forecast.first_text(float("nan"), 0.0)
    assert forecast.first_text_seconds(1.0) == 3.0
    assert forecast.first_text_seconds(1.0 + REMEMBERED_SECONDS) == 0.0


def test_a_stream_that_would_be_late_is_turned_away_at_once() -> None:
    admission = busy(taught(hold=1.0), limit=10)  # a slot every 0.1 s
    decisions = [admission.offer(ticket(n), 0.0) for n in range(6)]
    assert decisions[:4] == [Queue(1), Queue(2), Queue(3), Queue(4)]
    rejected = decisions[5]
    assert isinstance(rejected, Reject)
    assert (rejected.status, rejected.cause) == (429, "would_be_late")
    assert rejected.retry_after >= 1
    assert rejected.reason == "its first token is expected after 0.6 s, later than 0.5 s"


def test_the_time_to_the_first_text_and_that_already_lost_count_too() -> None:
    slow = busy(taught(hold=1.0, first=0.45), limit=10)
    assert isinstance(slow.offer(ticket(1), 0.0), Reject)
    tardy = busy(taught(hold=1.0), limit=10)
    assert isinstance(tardy.offer(ticket(1, arrived=-0.45), 0.0), Reject)


def test_the_prompts_ahead_count() -> None:
    subject = taught(hold=0.01)
    read_a_thousand_in_a_second(subject)
    admission = queue(subject, limit=10)
    assert admission.offer(ticket(1, 1.0, tokens=300), 1.0) == Admit()
    assert admission.offer(ticket(2, 1.0, tokens=150), 1.0) == Admit()
    assert isinstance(admission.offer(ticket(3, 1.0, tokens=300), 1.0), Reject)
    assert admission.offer(ticket(4, 1.0, tokens=40), 1.0) == Admit()


def test_control_waits_in_spite_of_what_is_foreseen() -> None:
    admission = busy(taught(hold=100.0, first=100.0), limit=1)
    assert admission.offer(ticket(1, governed=False), 0.0) == Queue(1)
    assert admission.expired(50.0) == []


def test_a_free_slot_turns_nobody_away_whatever_is_foreseen() -> None:
    admission = queue(taught(hold=100.0, first=100.0), limit=2)
    assert admission.offer(ticket(1), 0.0) == Admit()
    assert admission.offer(ticket(2), 0.0) == Admit()


def test_who_has_become_late_is_shed_before_taking_a_slot() -> None:
    subject = guard()
    admission = busy(subject, limit=1)
    assert admission.offer(ticket(1, 0.0), 0.0) == Queue(1)
    assert admission.offer(ticket(2, 0.3), 0.3) == Queue(2)
    subject.forecast.first_text(0.1, 0.4)
    admission.release(1000, 0.45)
    assert [one.stream_id for one in admission.ready(0.45)] == [2]
    assert [one.stream_id for one in admission.expired(0.45)] == [1]


def test_while_too_much_is_read_a_stream_waits_although_a_slot_is_free() -> None:
    subject = guard()
    read_a_thousand_in_a_second(subject)
    admission = queue(subject, limit=2)
    assert admission.offer(ticket(0, 1.0, tokens=0), 1.0) == Admit()
    assert admission.offer(ticket(1, 1.0, tokens=200), 1.0) == Admit()
    assert admission.offer(ticket(2, 1.0, tokens=290), 1.0) == Queue(1)
    assert admission.offer(ticket(3, 1.0, tokens=250, tenant="two"), 1.0) == Queue(2)
    admission.set_limit(4)  # half of which one tenant holds
    assert started(admission.ready(1.0)) == [3]
    assert admission.held_back
    subject.tokens.progress(1, 0, 1.2)
    assert admission.ready(1.2) == []
    subject.tokens.progress(3, 200, 1.25)
    assert started(admission.ready(1.25)) == [2]
    assert not admission.held_back


def test_streams_of_one_request_share_the_token_budget() -> None:
    subject = guard()
    read_a_thousand_in_a_second(subject)
    together = [ticket(n, 1.0, tokens=250) for n in range(2)]
    assert queue(subject, limit=10).offer_all(together, 1.0) == [Admit(), Admit()]


def started(decision: Sequence[Ticket]) -> list[int]:
    return [one.stream_id for one in decision]


def test_a_tenant_with_every_slot_gives_the_next_one_to_another() -> None:
    admission = busy(guard(), limit=4)
    for n in range(3):
        admission.offer(ticket(n), 0.0)
    admission.offer(ticket(10, 0.1, tenant="two"), 0.1)
    admission.release(1000, 0.2)
    assert started(admission.ready(0.2)) == [10]
    admission.release(1001, 0.2)
    assert started(admission.ready(0.2)) == [0]


def test_a_small_tenant_is_not_turned_away_because_of_a_large_one_s_queue() -> None:
    admission = busy(taught(hold=1.0), limit=10)
    while not isinstance(admission.offer(ticket(next(ids)), 0.0), Reject):
        pass
    assert isinstance(admission.offer(ticket(next(ids), tenant="two"), 0.0), Queue)


ids = iter(range(10_000, 20_000))


def test_in_a_full_queue_the_largest_tenant_makes_place_for_a_smaller_one() -> None:
    admission = busy(guard(), limit=1, capacity=4)
    for n in range(4):
        admission.offer(ticket(n), 0.0)
    assert isinstance(admission.offer(ticket(4), 0.0), Reject)
    assert admission.offer(ticket(10, tenant="two"), 0.0) == Queue(4)
    assert started(admission.expired(0.0)) == [3]
    admission.offer(ticket(11, tenant="two"), 0.0)
    assert isinstance(admission.offer(ticket(12, tenant="two"), 0.0), Reject)


def test_nobody_passes_a_control_stream_that_came_earlier() -> None:
    admission = busy(guard(), limit=4)
    admission.offer(ticket(1, governed=False), 0.0)
    admission.offer(ticket(2, tenant="two"), 0.1)
    admission.release(1000, 0.2)
    assert started(admission.ready(0.2)) == [1]


def test_d13_a_tenant_alone_is_never_turned_away_while_slots_are_free() -> None:
    """In the original 32 requests a minute blocked a tenant, and nothing was ever given back."""
    subject = taught(hold=0.01)
    admission = queue(subject, limit=4)
    for n in range(2000):
        assert admission.offer(ticket(n, n / 100), n / 100) == Admit()
        assert admission.release(n, n / 100 + 0.005)
    assert subject.tenants.held("one") == 0


def test_a_slot_that_the_guard_never_saw_taken_is_no_tenant_s() -> None:
    subject = guard()
    subject.released(7, 1.0)
    assert len(subject.tenants) == 0
    assert subject.displaced(ticket(1), [ticket(2, governed=False)], 1) == []


def test_where_nothing_guards_governed_streams_are_as_all_others() -> None:
    admission = AdmissionQueue(1, 2, 0.0)
    assert admission.offer(ticket(0), 0.0) == Admit()
    assert admission.offer(ticket(1, tenant="two"), 0.0) == Queue(1)
    assert admission.offer(ticket(2), 0.0) == Queue(2)
    assert isinstance(admission.offer(ticket(3, tenant="three"), 0.0), Reject)
    admission.release(0, 9.0)
    assert started(admission.ready(9.0)) == [1]


class World:
    """A guarded queue, and what became of each stream by its own word."""

    def __init__(self) -> None:
        self.guard = taught(hold=0.2)
        self.queue = queue(self.guard, limit=3, capacity=4)
        self.where: dict[int, str] = {}
        self.limit = 3
        self.now = 0.0

    def offer(self, number: int, *, governed: bool) -> None:
        free = self.queue.running < self.limit and not self.queue.waiting
        new = len(self.where) + 1
        asked = ticket(new, self.now, tenant=str(number % 3), governed=governed, tokens=number)
        decision: Decision = self.queue.offer(asked, self.now)
        self.where[new] = {Admit: "running", Queue: "waiting", Reject: "shed"}[type(decision)]
        assert not (free and isinstance(decision, Reject))

    def release(self, number: int) -> None:
        running = [one for one, place in self.where.items() if place == "running"]
        if running:
            gone = running[number % len(running)]
            assert self.queue.release(gone, self.now)
            self.where[gone] = "ended"

    def set_limit(self, limit: int) -> None:
        self.limit = limit
        self.queue.set_limit(limit)

    def settle(self) -> None:
        """Start and give up whom the queue names: each waited until now."""
        before = self.queue.running
        for tickets, fate in (
            (self.queue.ready(self.now), "running"),
            (self.queue.expired(self.now), "shed"),
        ):
            for one in tickets:
                assert self.where[one.stream_id] == "waiting"
                self.where[one.stream_id] = fate
        assert self.queue.running <= max(before, self.limit)

    def check(self) -> None:
        places = list(self.where.values())
        running = places.count("running")
        assert self.queue.running == running
        assert self.queue.waiting == places.count("waiting") <= 4
        live = {one for one, place in self.where.items() if place in {"running", "waiting"}}
        assert self.queue.stream_ids == live
        assert sum(self.guard.tenants.held(str(name)) for name in range(3)) == running


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["offer", "release", "limit", "first"]),
            st.integers(0, 11),
            st.floats(0, 0.3),
            st.booleans(),
        ),
        max_size=80,
    )
)
def test_every_stream_has_one_fate_and_the_limits_hold(
    events: list[tuple[str, int, float, bool]],
) -> None:
    world = World()
    for kind, number, later, governed in events:
        world.now += later
        if kind == "offer":
            world.offer(number, governed=governed)
        elif kind == "release":
            world.release(number)
        elif kind == "limit":
            world.set_limit(1 + number % 4)
        else:
            world.guard.forecast.first_text(later, world.now)
        world.settle()
        world.check()


def test_a_first_text_teaches_both_the_forecast_and_the_token_budget() -> None:
    subject = guard()
    read_a_thousand_in_a_second(subject)
    subject.started(ticket(1, 1.0, tokens=100), 1.0)
    assert subject.running == 1
    subject.first_text(1, 0.3, 1.3)  # of which 0.1 s are for the reading
    assert subject.forecast.first_text_seconds(1.3) == pytest.approx(0.3)
    assert subject.tokens.beyond_seconds(1.3) == pytest.approx(0.2)
    subject.released(1, 2.0)
    assert subject.running == 0
