from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from engine.core.aggregates import Aggregate, Counts
from engine.core.flags import TTFT_PIPELINE
from engine.core.registry import (
    EVENTS,
    TRANSITIONS,
    StreamError,
    StreamEvent,
    StreamRegistry,
    StreamState,
)

FLAGS = frozenset({TTFT_PIPELINE})
ENDINGS = ("complete", "fail", "cancel")
KIND = {"complete": "completed", "fail": "error", "cancel": "cancelled"}


def reraise(_told: StreamEvent | Aggregate, error: Exception) -> None:
    raise error


def running(registry: StreamRegistry, stream_id: int = 1) -> None:
    registry.admit(stream_id, FLAGS, 7, 10.0)
    registry.start(stream_id, 12.0)


def recorded() -> tuple[StreamRegistry, list[StreamEvent]]:
    registry, events = StreamRegistry(reraise), []
    registry.add_listener(events.append)
    return registry, events


def test_the_table_knows_every_state_and_a_terminal_state_leads_nowhere() -> None:
    assert set(TRANSITIONS) == set(StreamState)
    assert {state for state, to in TRANSITIONS.items() if not to} == set(EVENTS)


def test_an_event_tells_the_stream_s_whole_life_in_seconds() -> None:
    registry, events = recorded()
    running(registry)
    registry.token(1, 12.5)
    registry.token(1, 13.0, count=3)
    assert registry.complete(1, 14.0, "stop")
    assert events == [
        StreamEvent(
            kind="completed",
            stream_id=1,
            flags=FLAGS,
            now=14.0,
            waited=2.0,
            ttft=2.5,
            duration=4.0,
            prompt_tokens=7,
            output_tokens=4,
            reason="stop",
        )
    ]


@pytest.mark.parametrize("ending", ["fail", "cancel"])
def test_a_stream_may_end_while_it_waits_and_has_no_ttft(ending: str) -> None:
    registry, events = recorded()
    registry.admit(1, FLAGS, 7, 10.0)
    assert getattr(registry, ending)(1, 13.0, "deadline")
    assert (events[0].kind, events[0].ttft, events[0].waited) == (KIND[ending], None, 3.0)


@pytest.mark.parametrize(("first", "second"), list(product(ENDINGS, ENDINGS)))
def test_only_the_first_ending_counts(first: str, second: str) -> None:
    registry, events = recorded()
    running(registry)
    assert getattr(registry, first)(1, 13.0, "a")
    assert not getattr(registry, second)(1, 13.0, "b")
    assert [(event.kind, event.reason) for event in events] == [(KIND[first], "a")]


def test_what_comes_after_the_end_is_refused_without_an_error() -> None:
    registry, events = recorded()
    running(registry)
    registry.cancel(1, 13.0, "client gone")
    assert not registry.start(1, 14.0)
    assert not registry.token(1, 14.0)
    assert registry.state(1) is None
    assert events[0].output_tokens == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.complete(1, 0, "stop"), "from queued to completed; allowed: cancelled"),
        (lambda r: r.token(1, 0), "stream 1 got a token while queued"),
        (lambda r: r.admit(1, FLAGS, 1, 0), "stream 1 is admitted twice; it is queued"),
        (lambda r: r.start(1, 0) and r.start(1, 0), "from running to running"),
    ],
)
def test_a_call_that_the_state_forbids_is_an_error_and_changes_nothing(
    call: Callable[[StreamRegistry], object], message: str
) -> None:
    registry, events = recorded()
    registry.admit(1, FLAGS, 7, 0.0)
    with pytest.raises(StreamError, match=message):
        call(registry)
    assert registry.counts().live == 1
    assert not events


def test_a_listener_that_raises_is_reported_and_the_others_still_hear() -> None:
    reported: list[tuple[int, str]] = []

    def report(told: StreamEvent | Aggregate, error: Exception) -> None:
        assert isinstance(told, StreamEvent)
        reported.append((told.stream_id, str(error)))

    registry = StreamRegistry(report)
    heard: list[int] = []

    def broken(_event: StreamEvent) -> None:
        raise RuntimeError("broken listener")

    registry.add_listener(broken)
    registry.add_listener(lambda event: heard.append(event.stream_id))
    running(registry)
    assert registry.complete(1, 13.0, "stop")
    assert heard == [1]
    assert reported == [(1, "broken listener")]
    assert registry.listener_errors == 1
    assert registry.counts().completed == 1


def test_a_listener_may_call_back_and_ends_nothing_twice() -> None:
    registry, events = recorded()
    answers: list[bool] = []
    registry.add_listener(lambda event: answers.append(registry.fail(event.stream_id, 14.0, "x")))
    running(registry)
    registry.complete(1, 13.0, "stop")
    assert answers == [False]
    assert len(events) == 1


def test_a_stream_over_its_time_is_named_once_however_it_stands() -> None:
    registry, _ = recorded()
    running(registry)  # admitted at 10
    registry.admit(2, FLAGS, 7, 11.0)
    registry.admit(3, FLAGS, 7, 15.0)
    assert registry.overdue(5.0, 14.9) == []
    assert registry.overdue(5.0, 16.0) == [1, 2]
    assert registry.overdue(5.0, 17.0) == []
    assert registry.fail(1, 17.0, "stream_deadline")
    assert registry.overdue(5.0, 20.0) == [3]


def test_the_counts_of_a_leak_check_tell_who_listens() -> None:
    registry, _ = recorded()
    registry.subscribe(lambda _aggregate: None, 1.0, 0.0)
    assert registry.counts().listeners == 2


#: Longer than any example's clock runs without a stream being named.
LIFETIME = 30.0


class StreamLives(RuleBasedStateMachine):
    """Any history keeps the account balanced and ends each stream exactly once.

    The fate of a stream is decided here by drawing; the registry must follow. Of the four
    listeners one raises, one calls back, and two record.
    """

    queued = Bundle("queued")
    started = Bundle("started")
    ended = Bundle("ended")

    def __init__(self) -> None:
        super().__init__()
        self.errors = 0
        self.registry = StreamRegistry(self._failed)
        self.first: list[StreamEvent] = []
        self.last: list[StreamEvent] = []
        self.aggregates: list[Aggregate] = []
        for listener in (self.first.append, self._raise, self._call_back, self.last.append):
            self.registry.add_listener(listener)
        self.registry.subscribe(self.aggregates.append, 1.0, 0.0)
        self.now = 0.0
        self.tokens = 0
        self.admitted: dict[int, float] = {}
        self.named: set[int] = set()
        self.model = dict.fromkeys(("queued", "running", *KIND.values()), 0)

    def _failed(self, _told: StreamEvent | Aggregate, _error: Exception) -> None:
        self.errors += 1

    def _raise(self, _event: StreamEvent) -> None:
        raise RuntimeError("a broken listener")

    def _call_back(self, event: StreamEvent) -> None:
        assert not self.registry.cancel(event.stream_id, event.now, "again")
        assert self.registry.state(event.stream_id) is None

    @rule(target=queued)
    def admit(self) -> int:
        stream = len(self.admitted) + 1
        self.admitted[stream] = self.now
        self.model["queued"] += 1
        self.registry.admit(stream, FLAGS, 1, self.now)
        return stream

    @rule(target=started, stream=consumes(queued))
    def start(self, stream: int) -> int:
        assert self.registry.start(stream, self.now)
        self._move("queued", "running")
        return stream

    @rule(stream=started, count=st.integers(1, 4))
    def token(self, stream: int, count: int) -> None:
        assert self.registry.token(stream, self.now, count)
        self.tokens += count

    @rule(target=ended, stream=consumes(started), ending=st.sampled_from(ENDINGS))
    def end_running(self, stream: int, ending: str) -> int:
        assert getattr(self.registry, ending)(stream, self.now, "")
        self._move("running", KIND[ending])
        return stream

    @rule(target=ended, stream=consumes(queued), ending=st.sampled_from(("fail", "cancel")))
    def end_queued(self, stream: int, ending: str) -> int:
        assert getattr(self.registry, ending)(stream, self.now, "")
        self._move("queued", KIND[ending])
        return stream

    @rule(stream=ended, ending=st.sampled_from(ENDINGS))
    def end_again(self, stream: int, ending: str) -> None:
        assert not getattr(self.registry, ending)(stream, self.now, "")

    @rule(stream=ended)
    def come_late(self, stream: int) -> None:
        assert not self.registry.start(stream, self.now)
        assert not self.registry.token(stream, self.now)

    @rule(seconds=st.floats(0, LIFETIME))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        live = {stream for stream in self.admitted if self.registry.state(stream)}
        late = {stream for stream in live if self.now - self.admitted[stream] >= LIFETIME}
        named = self.registry.overdue(LIFETIME, self.now)
        assert len(named) == len(set(named))
        assert set(named) == late - self.named
        self.named |= late
        self.registry.export(1, self.now)

    @invariant()
    def the_account_balances(self) -> None:
        counts = self.registry.counts()
        model = self.model
        assert counts == Counts(
            admitted=len(self.admitted),
            completed=model["completed"],
            failed=model["error"],
            cancelled=model["cancelled"],
            live=model["queued"] + model["running"],
            queued=model["queued"],
            running=model["running"],
            output_tokens=self.tokens,
            listeners=5,
        )
        ended = counts.completed + counts.failed + counts.cancelled
        assert counts.admitted == ended + counts.live

    @invariant()
    def each_end_is_told_exactly_once_to_every_listener(self) -> None:
        told = [event.stream_id for event in self.first]
        assert len(told) == len(set(told))
        assert len(told) == sum(self.model[kind] for kind in KIND.values())
        assert self.last == self.first
        assert self.registry.listener_errors == self.errors == len(told)

    @invariant()
    def the_aggregates_add_up_to_the_account(self) -> None:
        counts = self.registry.counts()
        assert sum(each.admitted for each in self.aggregates) <= counts.admitted
        told = sum(each.tokens_per_second * each.seconds for each in self.aggregates)
        assert told <= self.tokens + 1e-6

    def teardown(self) -> None:
        """After the last stream nothing is left but the numbers."""
        for stream in self.admitted:
            self.registry.cancel(stream, self.now, "the end")
        counts = self.registry.counts()
        assert (counts.live, counts.queued, counts.running) == (0, 0, 0)
        assert counts.admitted == counts.completed + counts.failed + counts.cancelled
        assert not self.registry._live
        self.now += 1.0
        self.registry.export(1, self.now)
        assert sum(each.admitted for each in self.aggregates) == counts.admitted
        for name in ("completed", "failed", "cancelled"):
            assert sum(getattr(each, name) for each in self.aggregates) == getattr(counts, name)

    def _move(self, before: str, after: str) -> None:
        self.model[before] -= 1
        self.model[after] += 1


TestStreamLives = StreamLives.TestCase
