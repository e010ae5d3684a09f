from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.admission import AdmissionQueue, Admit, Queue, Reject, Ticket

FAR = 1e9


def ticket(
    stream_id: int,
    *,
    tokens: int = 10,
    pipeline: bool = False,
    arrived: float = 0.0,
    deadline: float = FAR,
) -> Ticket:
    return Ticket(stream_id, arrived, deadline, tokens, pipeline)


def queue(limit: int = 1, capacity: int = 10, ageing: float = 0.0) -> AdmissionQueue:
    return AdmissionQueue(limit, capacity, ageing)


def behind_a_runner(*waiting: Ticket, ageing: float = 0.0) -> AdmissionQueue:
    """A queue whose only slot is taken by stream 0 while the others wait."""
    admission = queue(ageing=ageing)
    for each in (ticket(0), *waiting):
        admission.offer(each, each.arrived)
    return admission


def drain(admission: AdmissionQueue, now: float = 100.0) -> list[int]:
    """Free the only slot again and again; the ids in the order of their start."""
    order, runner = [], 0
    while admission.waiting:
        admission.release(runner, now)
        (started,) = admission.ready(now)
        runner = started.stream_id
        order.append(runner)
    return order


def test_a_free_slot_admits_then_streams_queue_then_they_are_rejected() -> None:
    admission = queue(limit=1, capacity=2)
    decisions = [admission.offer(ticket(n), 0.0) for n in range(4)]
    assert decisions[:3] == [Admit(), Queue(1), Queue(2)]
    rejected = decisions[3]
    assert isinstance(rejected, Reject)
    assert rejected.status == 429
    assert rejected.reason == "1 streams run (limit 1) and 2 wait (limit 2)"
    assert (admission.running, admission.waiting) == (1, 2)


def test_streams_of_one_request_are_taken_all_or_none() -> None:
    admission = queue(limit=2, capacity=2)
    assert admission.offer_all([ticket(1), ticket(2), ticket(3)], 0.0) == [
        Admit(),
        Admit(),
        Queue(1),
    ]
    refused = admission.offer_all([ticket(4), ticket(5)], 0.0)
    assert isinstance(refused, Reject)
    assert (admission.running, admission.waiting) == (2, 1)
    assert admission.offer_all([ticket(6)], 0.0) == [Queue(2)]
    with pytest.raises(ValueError, match="at least one"):
        admission.offer_all([], 0.0)


@given(
    limit=st.integers(1, 4),
    capacity=st.integers(0, 4),
    before=st.integers(0, 8),
    freed=st.integers(0, 4),
    wanted=st.integers(1, 9),
)
def test_all_are_taken_exactly_when_each_would_be(
    limit: int, capacity: int, before: int, freed: int, wanted: int
) -> None:
    together, alone = queue(limit, capacity), queue(limit, capacity)
    for each in (together, alone):
        for n in range(before):
            each.offer(ticket(n), 0.0)
        for n in range(freed):
            each.release(n, 0.0)
    tickets = [ticket(100 + n) for n in range(wanted)]
    one_by_one = [alone.offer(each, 0.0) for each in tickets]
    expected = not any(isinstance(decision, Reject) for decision in one_by_one)
    at_once = together.offer_all(tickets, 0.0)
    assert at_once == one_by_one if expected else isinstance(at_once, Reject)


def test_nobody_overtakes_those_who_wait_when_a_slot_is_free() -> None:
    admission = behind_a_runner(ticket(1))
    admission.release(0, 1.0)
    assert admission.offer(ticket(2), 1.0) == Queue(2)
    assert [t.stream_id for t in admission.ready(1.0)] == [1]


def test_a_queue_without_places_rejects_at_once() -> None:
    admission = queue(limit=1, capacity=0)
    admission.offer(ticket(0), 0.0)
    assert isinstance(admission.offer(ticket(1), 0.0), Reject)


@pytest.mark.parametrize(
    ("ends", "now", "expected"),
    [
        pytest.param([], 0.0, 30.0, id="nothing completed: as long as one may wait"),
        pytest.param([0.0, 2.0], 4.0, 8.0, id="two in 4 s and 4 waiting: 8 s"),
        pytest.param([3.9, 3.9, 4.0], 4.0, 1.0, id="never below a second"),
        pytest.param([0.0], 100.0, 30.0, id="never above the patience of a stream"),
    ],
)
def test_retry_after_is_the_time_in_which_the_queue_drains(
    ends: list[float], now: float, expected: float
) -> None:
    admission = queue(limit=len(ends) + 1, capacity=4)
    for n in range(len(ends) + 1 + 4):
        admission.offer(ticket(n), 0.0)
    for n, end in enumerate(ends):
        admission.release(n, end)
    admission.set_limit(1)
    decision = admission.offer(ticket(99, deadline=now + 30.0), now)
    assert isinstance(decision, Reject)
    assert decision.retry_after == pytest.approx(expected)


def test_a_lowered_limit_takes_effect_by_attrition() -> None:
    admission = queue(limit=3)
    for n in range(5):
        admission.offer(ticket(n), 0.0)
    admission.set_limit(1)
    started = []
    for n in range(3):
        assert admission.running == 3 - n
        admission.release(n, 1.0)
        started.append([t.stream_id for t in admission.ready(1.0)])
    assert started == [[], [], [3]]


def test_a_raised_limit_starts_those_who_wait() -> None:
    admission = behind_a_runner(ticket(1), ticket(2), ticket(3))
    admission.set_limit(3)
    assert [t.stream_id for t in admission.ready(0.0)] == [1, 2]


def test_a_slot_is_freed_once() -> None:
    admission = behind_a_runner(ticket(1))
    assert admission.release(0, 1.0)
    assert not admission.release(0, 1.0)
    assert admission.running == 0


def test_a_cancelled_stream_leaves_the_queue_and_never_starts() -> None:
    admission = behind_a_runner(ticket(1), ticket(2))
    assert admission.cancel(1)
    assert not admission.cancel(1)
    assert not admission.cancel(0)
    assert drain(admission) == [2]


def test_past_its_deadline_a_stream_is_given_out_once_and_never_starts() -> None:
    admission = behind_a_runner(ticket(1, deadline=5.0), ticket(2))
    assert admission.expired(4.9) == []
    admission.release(0, 5.0)
    assert [t.stream_id for t in admission.ready(5.0)] == [2]
    assert [t.stream_id for t in admission.expired(5.0)] == [1]
    assert admission.expired(6.0) == []


def test_a_late_stream_holds_no_place_against_a_new_one() -> None:
    admission = queue(limit=1, capacity=1)
    admission.offer(ticket(0), 0.0)
    admission.offer(ticket(1, deadline=5.0), 0.0)
    assert admission.offer(ticket(2), 6.0) == Queue(1)


def test_a_late_stream_may_still_be_cancelled() -> None:
    admission = behind_a_runner(ticket(1, deadline=5.0))
    admission.ready(6.0)
    assert admission.cancel(1)
    assert admission.expired(6.0) == []


@pytest.mark.parametrize("place", ["running", "waiting", "late"])
def test_a_stream_asks_only_once(place: str) -> None:
    admission = behind_a_runner(ticket(1), ticket(2, deadline=1.0))
    admission.ready(2.0)
    stream_id = {"running": 0, "waiting": 1, "late": 2}[place]
    with pytest.raises(ValueError, match=f"stream {stream_id} asks for a second slot"):
        admission.offer(ticket(stream_id), 2.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: queue(limit=0), "at least 1, given 0"),
        (lambda: queue(capacity=-1), "capacity -1"),
        (lambda: queue(ageing=-1.0), "ageing -1.0"),
    ],
)
def test_bounds_that_cannot_serve_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("waiting", "order"),
    [
        pytest.param([(1, 9, False), (2, 1, False)], [1, 2], id="control: order of arrival"),
        pytest.param([(1, 9, True), (2, 1, True)], [2, 1], id="treatment: shortest first"),
        pytest.param([(1, 5, True), (2, 5, True)], [1, 2], id="equal: order of arrival"),
        pytest.param([(1, 9, True), (2, 5, False), (3, 1, True)], [1, 2, 3], id="not past control"),
        pytest.param(
            [(1, 9, True), (2, 4, True), (3, 5, False), (4, 8, True), (5, 1, True)],
            [2, 1, 3, 5, 4],
            id="each run for itself",
        ),
    ],
)
def test_order_of_start(waiting: list[tuple[int, int, bool]], order: list[int]) -> None:
    tickets = [ticket(n, tokens=tokens, pipeline=pipeline) for n, tokens, pipeline in waiting]
    assert drain(behind_a_runner(*tickets)) == order


@pytest.mark.parametrize(
    ("later_by", "order"),
    [
        pytest.param(0.5, [2, 1], id="soon after: the short one passes"),
        pytest.param(1.5, [1, 2], id="later: the long one has aged enough"),
    ],
)
def test_a_long_prompt_ages_until_short_ones_no_longer_pass(
    later_by: float, order: list[int]
) -> None:
    long = ticket(1, tokens=1010, pipeline=True)
    short = ticket(2, tokens=10, pipeline=True, arrived=later_by)
    assert drain(behind_a_runner(long, short, ageing=1000.0)) == order


arrivals = st.lists(
    st.tuples(st.integers(1, 500), st.booleans(), st.integers(1, 5)), min_size=1, max_size=30
)


def slots(
    tickets: list[Ticket], work: list[int], limit: int, unknown: Sequence[int] = ()
) -> tuple[list[int], list[tuple[int, int]]]:
    """Serve to the end, in rounds: the n-th start lasts `work[n]` rounds; two come a round.

    The ids in the order of start, and the round of each start. `unknown` says what becomes
    known of those that wait: the tokens that stream n will read.
    """
    admission = queue(limit=limit, capacity=len(tickets), ageing=50.0)
    order: list[int] = []
    rounds: list[tuple[int, int]] = []
    ends: dict[int, int] = {}
    arriving = list(tickets)
    now = 0
    while arriving or admission.waiting:
        for stream_id in [s for s, end in ends.items() if end <= now]:
            del ends[stream_id]
            admission.release(stream_id, now)
        started = [t.stream_id for t in admission.ready(now)]
        coming, arriving = arriving[:2], arriving[2:]
        started += [t.stream_id for t in coming if admission.offer(t, now) == Admit()]
        for stream_id, tokens in enumerate(unknown):
            admission.expect(stream_id, tokens)
        for stream_id in started:
            ends[stream_id] = now + work[len(order)]
            order.append(stream_id)
            rounds.append((stream_id, now))
        now += 1
    return order, rounds


@given(arrivals, st.integers(1, 4))
def test_treatment_moves_no_control_stream(given: list[tuple[int, bool, int]], limit: int) -> None:
    tickets = [
        ticket(n, tokens=tokens, pipeline=pipeline, arrived=n // 2)
        for n, (tokens, pipeline, _) in enumerate(given)
    ]
    work = [rounds for _, _, rounds in given]
    control = {t.stream_id for t in tickets if not t.pipeline}
    reordered, when = slots(tickets, work, limit)
    fifo, when_fifo = slots([replace(t, pipeline=False) for t in tickets], work, limit)
    assert fifo == [t.stream_id for t in tickets]
    assert sorted(reordered) == fifo
    assert [s if s in control else None for s in reordered] == [
        s if s in control else None for s in fifo
    ]
    assert [x for x in when if x[0] in control] == [x for x in when_fifo if x[0] in control]


@given(arrivals, st.integers(1, 4), st.lists(st.integers(0, 500), min_size=30, max_size=30))
def test_whatever_is_known_of_prompts_no_control_stream_moves(
    given: list[tuple[int, bool, int]], limit: int, unknown: list[int]
) -> None:
    tickets = [
        ticket(n, tokens=tokens, pipeline=pipeline, arrived=n // 2)
        for n, (tokens, pipeline, _) in enumerate(given)
    ]
    work = [rounds for _, _, rounds in given]
    order, when = slots(tickets, work, limit, unknown)
    _, when_fifo = slots([replace(t, pipeline=False) for t in tickets], work, limit)
    control = {t.stream_id for t in tickets if not t.pipeline}
    assert sorted(order) == [t.stream_id for t in tickets]
    assert [x for x in when if x[0] in control] == [x for x in when_fifo if x[0] in control]


def test_a_prompt_that_is_known_goes_first_and_expecting_an_unknown_stream_is_nothing() -> None:
    admission = behind_a_runner(
        ticket(1, tokens=100, pipeline=True), ticket(2, tokens=300, pipeline=True)
    )
    admission.expect(2, 20)
    admission.expect(9, 1)
    assert drain(admission) == [2, 1]


def test_a_known_prompt_ages_as_any_other() -> None:
    admission = behind_a_runner(
        ticket(1, tokens=100, pipeline=True),
        ticket(2, tokens=300, pipeline=True, arrived=5.0),
        ageing=50.0,
    )
    admission.expect(2, 1)
    assert drain(admission) == [1, 2]


@given(arrivals, st.integers(1, 4))
def test_no_stream_passes_a_control_stream_that_came_earlier(
    given: list[tuple[int, bool, int]], limit: int
) -> None:
    tickets = [
        ticket(n, tokens=tokens, pipeline=pipeline, arrived=n // 2)
        for n, (tokens, pipeline, _) in enumerate(given)
    ]
    order, _ = slots(tickets, [rounds for _, _, rounds in given], limit)
    for position, stream_id in enumerate(order):
        if not tickets[stream_id].pipeline:
            assert all(earlier < stream_id for earlier in order[:position])


@given(arrivals, st.integers(1, 4), st.integers(0, 5))
def test_never_more_than_the_limit_run_nor_than_the_capacity_wait(
    given: list[tuple[int, bool, int]], limit: int, capacity: int
) -> None:
    admission = queue(limit=limit, capacity=capacity)
    decisions = [
        admission.offer(ticket(n, tokens=tokens, pipeline=pipeline), 0.0)
        for n, (tokens, pipeline, _) in enumerate(given)
    ]
    kinds = [type(decision) for decision in decisions]
    assert kinds.count(Admit) == admission.running == min(limit, len(given))
    assert kinds.count(Queue) == admission.waiting == min(capacity, len(given) - admission.running)
