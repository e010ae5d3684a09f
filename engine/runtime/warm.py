"""Streams that wait in the front end: what is known of their prompts is held for them.

Owned by the thread that owns the model, as the prefix store is. Entries leave when their
stream is submitted or given up, and by themselves when they are too old: also when nothing
takes anything out.
"""

from dataclasses import dataclass

from engine.runtime.messages import Warm, Warmed
from engine.runtime.prefixes import PrefixStore, worth_keeping


@dataclass(slots=True, eq=False)
class Waiting:
    """A stream that waits. `known` tokens of its prompt need not be read again."""

    message: Warm
    until: float
    known: int = 0
    done: bool = False  #: nothing more is read ahead for it

    @property
    def uid(self) -> int:
        """Its id, which the front end gave."""
        return self.message.uid

    @property
    def unread(self) -> int:
        """Tokens that can still be read ahead: the last one is read when the stream begins."""
        return len(self.message.prompt) - 1 - self.known


class WarmQueue:
    """Pins what waiting streams will need, and says which prompt to read ahead next."""

    def __init__(self, prefixes: PrefixStore) -> None:
        self._prefixes = prefixes
        self._waiting: dict[int, Waiting] = {}  # in order of arrival
        self._news: dict[int, Warmed] = {}
        self.expired = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: Warm, now: float) -> None:
        """A stream waits; asking again renews its time."""
        one = self._waiting[message.uid] = Waiting(message, now + message.seconds)
        self.look_up(one)

    def look_up(self, one: Waiting) -> None:
        """Pin what is known of a prompt by now, and tell."""
        one.known = self._prefixes.pin(one.uid, one.message.prompt)
        self._news[one.uid] = Warmed(one.uid, one.known)

    def leave(self, uid: int) -> bool:
        """The stream was submitted: its pin stays until `release`. False for unknown ids."""
        self._news.pop(uid, None)
        return self._waiting.pop(uid, None) is not None

    def release(self, uid: int) -> None:
        """Nothing is held for a stream any more. Unknown ids are ignored."""
        self.leave(uid)
        self._prefixes.unpin(uid)

    def expire(self, now: float) -> None:
        """Let go of those that waited too long."""
        for uid in [uid for uid, one in self._waiting.items() if one.until <= now]:
            self.expired += 1
            self.release(uid)

    def next(self) -> Waiting | None:
        """Whose prompt to read ahead: the least work first, as the front end starts them."""
        given = [
            one
            for one in self._waiting.values()
            if not one.done and one.unread > 0 and worth_keeping(one.known + one.unread)
        ]
        least = min(given, key=lambda one: one.unread, default=None)
        return least if least and self._prefixes.pin_fits(least.unread) else None

    def holds(self, one: Waiting) -> bool:
        """Whether it still waits."""
        return self._waiting.get(one.uid) is one

    def news(self) -> tuple[list[Warmed], int]:
        """What changed since the last time: tokens known, and how many entries expired."""
        news, expired = list(self._news.values()), self.expired
        self._news, self.expired = {}, 0
        return news, expired

    def clear(self) -> None:
        """Forget everything; the streams are read when they come."""
        for uid in list(self._waiting):
            self.release(uid)
