"""What nobody owns any more: named when it has been so for a while, and not before.

Between two steps of an ordinary end, something may look abandoned for a moment. So a suspect
is reclaimed only when every look of a whole grace period found it abandoned.
"""

from collections.abc import Collection, Hashable, Mapping
from typing import Generic, TypeVar

KindT = TypeVar("KindT", bound=Hashable)
IdT = TypeVar("IdT", bound=Hashable)


class CleanupScheduler(Generic[KindT, IdT]):
    """Decides what to reclaim; the caller looks, and does it.

    Args:
        grace_seconds: how long something must be abandoned without a break.

    Raises:
        ValueError: the grace is not above 0 s.
    """

    def __init__(self, grace_seconds: float) -> None:
        if grace_seconds <= 0:
            raise ValueError(f"the grace must be above 0 s, given {grace_seconds}")
        self._grace = grace_seconds
        self._since: dict[tuple[KindT, IdT], float] = {}
        self._lag = 0.0

    @property
    def lag_seconds(self) -> float:
        """How long after its grace the last sweep reclaimed its oldest; 0 if nothing was due."""
        return self._lag

    @property
    def suspects(self) -> int:
        """How many look abandoned and have grace left."""
        return len(self._since)

    def sweep(
        self, abandoned: Mapping[KindT, Collection[IdT]], now: float
    ) -> list[tuple[KindT, IdT]]:
        """What is to be reclaimed of what looks abandoned now, each named once.

        Whatever is still abandoned afterwards starts anew, as a suspect with full grace.
        """
        seen = [(kind, id_) for kind, ids in abandoned.items() for id_ in ids]
        self._since = {one: self._since.get(one, now) for one in seen}
        due = [one for one in seen if now - self._since[one] >= self._grace]
        self._lag = max((now - self._since[one] - self._grace for one in due), default=0.0)
        for one in due:
            del self._since[one]
        return due
