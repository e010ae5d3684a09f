"""Which of several streams makes the runtime fail.

A fault takes every stream of the process with it, and one of them may be its cause: a
request that the model cannot stand. Replaying all of them would fail again, and failing all
of them would punish the innocent. So the streams that ran become suspects and run again in
groups, each group by itself: a group that faults is halved, a stream that gets beyond the
place of the fault is cleared, and only one that faults *alone* is convicted.

Finding one culprit among n takes about log2(n) faults, and at most 2 n in the worst case.
"""

from collections import deque
from collections.abc import Mapping
from typing import Final

from engine.core.registry import StreamId

#: Output tokens beyond those at the fault that clear a suspect. The fault comes in the step
#: of the next token; where the device computes a step ahead it may show one step later.
CLEARING_TOKENS: Final = 2


class Isolation:
    """The investigation of a fault; at rest while nobody is suspected.

    The caller runs only the streams that `admits` lets through, and tells what becomes of
    them. Faults whose cause lies outside (a signal from an operator, say) are not told.
    """

    def __init__(self) -> None:
        self._groups: deque[list[StreamId]] = deque()  # the first one runs; none is empty
        self._goals: dict[StreamId, int] = {}  # output tokens that clear a suspect

    @property
    def active(self) -> bool:
        """Whether anyone is suspected."""
        return bool(self._groups)

    def admits(self, stream_id: StreamId) -> bool:
        """Whether a stream may run now."""
        return not self._groups or stream_id in self._groups[0]

    def faulted(self, emitted: Mapping[StreamId, int], *, alone: bool = True) -> StreamId | None:
        """A fault happened while these streams ran, with so many output tokens each.

        Args:
            emitted: by stream.
            alone: nobody else ran. Otherwise it shows nothing of a group: one that was just
                cleared and had not left may be the cause, at a later place than that of before.

        Returns:
            The stream that is convicted by it: it ran alone, as a suspect.
        """
        if not emitted:
            return None
        known = set(self._goals)
        self._goals |= {uid: count + CLEARING_TOKENS for uid, count in emitted.items()}
        if not self._groups:
            self._groups.extend(_halves(list(emitted)))
            return None
        newcomers = [uid for uid in emitted if uid not in known]
        if newcomers:  # submitted before the caller knew: the group was not by itself
            self._groups.append(newcomers)
        if not alone or any(uid not in self._groups[0] for uid in emitted):
            return None  # the group runs again
        return self._split()

    def emitted(self, stream_id: StreamId, count: int) -> None:
        """A stream has so many output tokens now; far enough, and it is cleared."""
        if self._goals.get(stream_id, count + 1) <= count:
            self.left(stream_id)

    def left(self, stream_id: StreamId) -> None:
        """A stream ended, was given up, or stands still: it is not investigated further."""
        if self._goals.pop(stream_id, None) is None:
            return
        groups = ([uid for uid in group if uid != stream_id] for group in self._groups)
        self._groups = deque(group for group in groups if group)

    def _split(self) -> StreamId | None:
        group = self._groups.popleft()
        if len(group) == 1:
            del self._goals[group[0]]
            return group[0]
        self._groups.extendleft(reversed(_halves(group)))
        return None


def _halves(group: list[StreamId]) -> list[list[StreamId]]:
    middle = (len(group) + 1) // 2
    return [half for half in (group[:middle], group[middle:]) if half]
