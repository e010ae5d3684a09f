from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from engine.core.flags import TTFT_PIPELINE
from engine.core.registry import (
    EVENTS,
    TRANSITIONS,
    Counts,
    StreamError,
    StreamEvent,
    StreamRegistry,
    StreamState,
)

FLAGS = frozenset({TTFT_PIPELINE})
ENDINGS = ("complete", "fail", "cancel")
KIND = {"complete": "completed", "fail": "error", "cancel": "cancelled"}


def reraise(_event: StreamEvent, error: Exception) -> None:
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
    registry = StreamRegistry(lambda event, error: reported.append((event.stream_id, str(error))))
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


class StreamLives(RuleBasedStateMachine):
    """Any history keeps the account balanced and ends each stream exactly once."""

    queued = Bundle("queued")
    started = Bundle("started")
    ended = Bundle("ended")

    def __init__(self) -> None:
        super().__init__()
        self.registry, self.events = recorded()
        self.admitted = 0
        self.model = dict.fromkeys(("queued", "running", *KIND.values()), 0)

    @rule(target=queued)
    def admit(self) -> int:
        self.admitted += 1
        self.model["queued"] += 1
        self.registry.admit(self.admitted, FLAGS, 1, 0.0)
        return self.admitted

    @rule(target=started, stream=consumes(queued))
    def start(self, stream: int) -> int:
        assert self.registry.start(stream, 0.0)
        self._move("queued", "running")
        return stream

    @rule(stream=started, count=st.integers(1, 4))
    def token(self, stream: int, count: int) -> None:
        assert self.registry.token(stream, 0.0, count)

    @rule(target=ended, stream=consumes(started), ending=st.sampled_from(ENDINGS))
    def end_running(self, stream: int, ending: str) -> int:
        assert getattr(self.registry, ending)(stream, 0.0, "")
        self._move("running", KIND[ending])
        return stream

    @rule(target=ended, stream=consumes(queued), ending=st.sampled_from(("fail", "cancel")))
    def end_queued(self, stream: int, ending: str) -> int:
        assert getattr(self.registry, ending)(stream, 0.0, "")
        self._move("queued", KIND[ending])
        return stream

    @rule(stream=ended, ending=st.sampled_from(ENDINGS))
    def end_again(self, stream: int, ending: str) -> None:
        assert not getattr(self.registry, ending)(stream, 0.0, "")

    @invariant()
    def the_account_balances(self) -> None:
        counts = self.registry.counts()
        model = self.model
        assert counts == Counts(
            admitted=self.admitted,
            completed=model["completed"],
            failed=model["error"],
            cancelled=model["cancelled"],
            live=model["queued"] + model["running"],
            queued=model["queued"],
            running=model["running"],
        )
        ended = counts.completed + counts.failed + counts.cancelled
        assert counts.admitted == ended + counts.live

    @invariant()
    def each_end_is_told_exactly_once(self) -> None:
        told = [event.stream_id for event in self.events]
        assert len(told) == len(set(told))
        assert len(told) == sum(self.model[kind] for kind in KIND.values())

    def _move(self, before: str, after: str) -> None:
        self.model[before] -= 1
        self.model[after] += 1


TestStreamLives = StreamLives.TestCase
