"""Streams that wait for their place, as one process was told of them.

A prompt that is read ahead can make the process fail as any other can, and its stream is not
among those that run. So after a failure with such streams none of the running ones is
suspected, and the process is told of none for a while: if it fails again, it is theirs.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from engine.runtime.messages import Forget, ToRuntime, Warm, Warmed

#: Longer than the backoff of restarts, so that the next failure finds no such stream; and a
#: minute without reading ahead costs only time to first token.
QUIET_SECONDS: Final = 60.0


class Receiver(Protocol):
    """A process that is ready."""

    def send(self, message: ToRuntime) -> None:
        """Queue a message."""


class Warming:
    """Owns who was told of, and who is told how much is known."""

    def __init__(self) -> None:
        self._told: dict[int, Callable[[int], None]] = {}
        self._quiet_until = 0.0

    def __len__(self) -> int:
        return len(self._told)

    def warm(
        self, to: Receiver, message: Warm, on_known: Callable[[int], None], now: float
    ) -> None:
        """Tell the process of a stream; its front end hears how many tokens are known."""
        if now >= self._quiet_until:
            self._told[message.uid] = on_known
            to.send(message)

    def forget(self, to: Receiver | None, uid: int) -> None:
        """The stream does not come. Unknown ids are ignored."""
        if self._told.pop(uid, None) and to:
            to.send(Forget(uid=uid))

    def submitted(self, uid: int) -> None:
        """The stream has its place. Unknown ids are ignored."""
        self._told.pop(uid, None)

    def heard(self, news: Sequence[Warmed]) -> None:
        """The process says what it knows; of those that have left nobody hears."""
        for each in news:
            if on_known := self._told.get(each.uid):
                on_known(each.known)

    def failed(self, now: float) -> bool:
        """The process or a step failed by itself: whether a waiting stream may be the cause."""
        if not self._told:
            return False
        self._told.clear()
        self._quiet_until = now + QUIET_SECONDS
        return True

    def ended(self) -> None:
        """The process is gone, and what it held with it."""
        self._told.clear()
