"""What a pool is made of: replicas, and the streams that are in them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from engine.core.placing import Load, PrefixIndex
from engine.runtime.interface import ReplicaState, Streaming, StreamListener
from engine.runtime.messages import Prefill, Submit, Token

#: States in which a replica serves no more, and does not come back by itself.
_OVER: Final = (ReplicaState.FAILED, ReplicaState.STOPPED)


class Supervised(Streaming, Protocol):
    """One replica, whose live streams can be taken over."""

    def hand_over(self) -> list[tuple[Submit, StreamListener]]:
        """Take every live stream out, in order of arrival, each with what it emitted."""


#: Makes a replica; it calls back once when it is past saving, before it faults its streams.
MakeReplica = Callable[[Callable[[], None]], Supervised]


class Ground(Protocol):
    """What the processes of all replicas share: opened before the first, closed last."""

    async def open(self) -> None:
        """Make it ready; raises `RuntimeStartError` when it cannot be had."""

    async def close(self) -> None:
        """Give it back. May be called twice, and without `open`."""


@dataclass(slots=True, eq=False)
class Member:
    """A replica of the pool.

    `sent` is what the process with `pid` was sent. `out`: it starts, leaves, or is lost, and
    takes no stream.
    """

    number: int
    replica: Supervised
    out: bool = True
    streams: int = 0
    sent: PrefixIndex = field(default_factory=PrefixIndex)
    pid: int | None = None

    @property
    def serving(self) -> bool:
        """Whether it takes streams, now or after its restart."""
        return not self.out and self.replica.replicas()[0].state not in _OVER

    def load(self, hashes: Sequence[bytes]) -> Load:
        """How a new stream finds it."""
        pid = self.replica.replicas()[0].pid
        if pid != self.pid:  # a new process has read nothing yet
            self.pid = pid
            self.sent.clear()
        return Load(
            replica=self.number,
            streams=self.streams,
            ready=self.replica.ready,
            known=self.sent.known(hashes),
        )


class RoutedStream:
    """The pool's ear in a stream: it knows where the stream is, and when it is over."""

    def __init__(self, uid: int, listener: StreamListener, forget: Callable[[int], object]) -> None:
        self.uid = uid
        self.home: Member | None = None
        self.paused = False
        self._listener = listener
        self._forget = forget

    def on_prefill(self, prefill: Prefill) -> None:
        """Pass it on."""
        try:
            self._listener.on_prefill(prefill)
        except BaseException:
            self._forget(self.uid)  # the replica cancels a stream whose listener raises
            raise

    def on_token(self, token: Token) -> None:
        """Pass it on; the last one ends the stream."""
        if token.finish is not None:
            self._forget(self.uid)
        try:
            self._listener.on_token(token)
        except BaseException:
            self._forget(self.uid)  # as above
            raise

    def on_fault(self, reason: str) -> None:
        """Pass it on; the stream is over."""
        self._forget(self.uid)
        self._listener.on_fault(reason)
