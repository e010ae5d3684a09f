"""Every stream from admission to its end: one state, one terminal event.

All that decides the state of a stream stands in this file. The rules:

1. a stream moves only along `TRANSITIONS`;
2. who ends a stream first ends it: every later attempt gets False and emits nothing;
3. admitted = completed + failed + cancelled + live, at any moment;
4. a stream that outlives its time is named once, and whoever asked ends it.

A stream that has ended is forgotten, so memory is bounded by the streams that live.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, TypeVar

from engine.core.aggregates import Aggregate, AggregateListener, Aggregates, Counts
from engine.core.flags import FlagSet

#: The `uid` of the stream's `Submit`: one id for a stream everywhere.
StreamId = int

EventKind = Literal["completed", "error", "cancelled"]


class StreamState(StrEnum):
    """Where a stream stands."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: From a state to those that may follow. States that nothing follows are terminal.
TRANSITIONS: Final[dict[StreamState, frozenset[StreamState]]] = {
    StreamState.QUEUED: frozenset({StreamState.RUNNING, StreamState.FAILED, StreamState.CANCELLED}),
    StreamState.RUNNING: frozenset(
        {StreamState.COMPLETED, StreamState.FAILED, StreamState.CANCELLED}
    ),
    StreamState.COMPLETED: frozenset(),
    StreamState.FAILED: frozenset(),
    StreamState.CANCELLED: frozenset(),
}

#: The terminal event of each terminal state.
EVENTS: Final[dict[StreamState, EventKind]] = {
    StreamState.COMPLETED: "completed",
    StreamState.FAILED: "error",
    StreamState.CANCELLED: "cancelled",
}


class StreamError(RuntimeError):
    """A call that the stream's state forbids: a fault in the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent:
    """The end of a stream. All times are in seconds and count from its admission.

    `waited` is the time in the queue; `ttft` includes it and is None when no token came.
    """

    kind: EventKind
    stream_id: StreamId
    flags: FlagSet
    now: float
    waited: float
    ttft: float | None
    duration: float
    prompt_tokens: int
    output_tokens: int
    reason: str


@dataclass(slots=True)
class _Stream:
    flags: FlagSet
    prompt_tokens: int
    admitted: float
    state: StreamState = StreamState.QUEUED
    started: float | None = None
    first_token: float | None = None
    output_tokens: int = 0
    named_overdue: bool = False

    def event(self, kind: EventKind, stream_id: StreamId, now: float, reason: str) -> StreamEvent:
        return StreamEvent(
            kind=kind,
            stream_id=stream_id,
            flags=self.flags,
            now=now,
            waited=(now if self.started is None else self.started) - self.admitted,
            ttft=None if self.first_token is None else self.first_token - self.admitted,
            duration=now - self.admitted,
            prompt_tokens=self.prompt_tokens,
            output_tokens=self.output_tokens,
            reason=reason,
        )


Listener = Callable[[StreamEvent], None]
ListenerErrorHandler = Callable[[StreamEvent | Aggregate, Exception], None]

_ToldT = TypeVar("_ToldT", StreamEvent, Aggregate)


class StreamRegistry:
    """Owns the state of every stream and tells listeners, once, how each one ended.

    Other listeners hear on an interval how all streams do. A listener that raises hides
    nothing from the others: its exception is counted in `listener_errors` and handed to
    `on_listener_error`, which must not raise.
    """

    def __init__(self, on_listener_error: ListenerErrorHandler) -> None:
        self._on_listener_error = on_listener_error
        self._listeners: list[Listener] = []
        self._live: dict[StreamId, _Stream] = {}
        self._tally = dict.fromkeys(StreamState, 0)
        self._admitted = 0
        self._output_tokens = 0
        self._aggregates = Aggregates()
        self.listener_errors = 0

    def add_listener(self, listener: Listener) -> None:
        """Call `listener` with every terminal event from now on, in order of addition."""
        self._listeners.append(listener)

    def subscribe(self, listener: AggregateListener, seconds: float, now: float) -> None:
        """Call `listener` with an `Aggregate` every `seconds`, at the `export` that is then due.

        Raises:
            ValueError: an interval that is not above 0.
        """
        self._aggregates.subscribe(listener, seconds, self.counts(), now)

    def export(self, limit: int, now: float) -> None:
        """Tell every subscriber whose interval is over. `limit` is the streams that may run."""
        for listener, aggregate in self._aggregates.due(self.counts(), limit, now):
            self._tell(listener, aggregate)

    def admit(self, stream_id: StreamId, flags: FlagSet, prompt_tokens: int, now: float) -> None:
        """Take a stream in, queued, with the flags that stay its own for life.

        Raises:
            StreamError: the id belongs to a live stream.
        """
        if stream_id in self._live:
            raise StreamError(
                f"stream {stream_id} is admitted twice; it is {self.state(stream_id)}"
            )
        self._live[stream_id] = _Stream(flags, prompt_tokens, now)
        self._admitted += 1
        self._tally[StreamState.QUEUED] += 1

    def start(self, stream_id: StreamId, now: float) -> bool:
        """The stream got its slot. False when it has already ended.

        Raises:
            StreamError: it runs already.
        """
        stream = self._live.get(stream_id)
        if stream is None:
            return False
        self._move(stream_id, stream, StreamState.RUNNING)
        stream.started = now
        return True

    def token(self, stream_id: StreamId, now: float, count: int = 1) -> bool:
        """Output tokens came; the first ones set the TTFT. False when the stream has ended.

        Raises:
            StreamError: the stream has not started.
        """
        stream = self._live.get(stream_id)
        if stream is None:
            return False
        if stream.state is not StreamState.RUNNING:
            raise StreamError(f"stream {stream_id} got a token while {stream.state}")
        if stream.first_token is None:
            stream.first_token = now
            self._aggregates.first_token(now - stream.admitted, now)
        stream.output_tokens += count
        self._output_tokens += count
        return True

    def complete(self, stream_id: StreamId, now: float, reason: str) -> bool:
        """The stream ended well. False when it had ended before.

        Raises:
            StreamError: the stream has not started.
        """
        return self._end(stream_id, StreamState.COMPLETED, now, reason)

    def fail(self, stream_id: StreamId, now: float, reason: str) -> bool:
        """We failed the stream, running or queued. False when it had ended before."""
        return self._end(stream_id, StreamState.FAILED, now, reason)

    def cancel(self, stream_id: StreamId, now: float, reason: str) -> bool:
        """The client gave the stream up, running or queued. False when it had ended before."""
        return self._end(stream_id, StreamState.CANCELLED, now, reason)

    def overdue(self, seconds: float, now: float) -> list[StreamId]:
        """The live streams that were admitted `seconds` ago or earlier, each named once."""
        late = [
            (stream_id, stream)
            for stream_id, stream in self._live.items()
            if now - stream.admitted >= seconds and not stream.named_overdue
        ]
        for _, stream in late:
            stream.named_overdue = True
        return [stream_id for stream_id, _ in late]

    def state(self, stream_id: StreamId) -> StreamState | None:
        """The state of a live stream; None for one that has ended or never was."""
        stream = self._live.get(stream_id)
        return None if stream is None else stream.state

    @property
    def stream_ids(self) -> frozenset[StreamId]:
        """The live streams."""
        return frozenset(self._live)

    def counts(self) -> Counts:
        """What was admitted, and where all of it is now."""
        return Counts(
            admitted=self._admitted,
            completed=self._tally[StreamState.COMPLETED],
            failed=self._tally[StreamState.FAILED],
            cancelled=self._tally[StreamState.CANCELLED],
            live=len(self._live),
            queued=self._tally[StreamState.QUEUED],
            running=self._tally[StreamState.RUNNING],
            output_tokens=self._output_tokens,
            listeners=len(self._listeners) + self._aggregates.subscribers,
        )

    def _move(self, stream_id: StreamId, stream: _Stream, to: StreamState) -> None:
        if to not in TRANSITIONS[stream.state]:
            allowed = ", ".join(sorted(TRANSITIONS[stream.state]))
            raise StreamError(
                f"stream {stream_id} cannot go from {stream.state} to {to}; allowed: {allowed}"
            )
        self._tally[stream.state] -= 1
        self._tally[to] += 1
        stream.state = to

    def _end(self, stream_id: StreamId, state: StreamState, now: float, reason: str) -> bool:
        stream = self._live.get(stream_id)
        if stream is None:
            return False
        self._move(stream_id, stream, state)
        # Forgotten before anyone is told: a listener that ends the stream again gets False.
        del self._live[stream_id]
        if state is StreamState.COMPLETED:
            self._aggregates.completed(now - stream.admitted, now)
        event = stream.event(EVENTS[state], stream_id, now, reason)
        for listener in tuple(self._listeners):
            self._tell(listener, event)
        return True

    def _tell(self, listener: Callable[[_ToldT], None], what: _ToldT) -> None:
        try:
            listener(what)
        except Exception as error:  # noqa: BLE001 - reported; the others must still hear
            self.listener_errors += 1
            self._on_listener_error(what, error)
