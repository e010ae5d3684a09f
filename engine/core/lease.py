"""A dead man's switch: an engine that hears nothing of its guard does not go on as if it were well.

A lease lapses by the first of two clocks. One never goes back, so that a system clock that is
set back cannot prolong a lease. The other is the system's, so that time counts in which the
machine slept or the engine was down. A system clock that is set forward may end a lease early:
that costs a feature for a while, the other way would cost the safeguard.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

CANARY, EARLY, MID, FULL = "canary", "early", "mid", "full"

#: Stages that nobody may serve unwatched: there the engine brakes itself.
WATCHED: Final = (CANARY, EARLY, MID)


@dataclass(frozen=True, slots=True)
class Lease:
    """Until when a rollout may be served.

    Attributes:
        seconds: what was granted; nothing can make of it more than that.
        deadline: by the clock that never goes back.
        expires_at: in seconds since 1970.
    """

    seconds: float
    deadline: float
    expires_at: float

    @classmethod
    def grant(cls, seconds: float, *, now: float, wall: float) -> Self:
        """A lease from now on."""
        return cls(seconds, now + seconds, wall + seconds)

    @classmethod
    def resume(cls, seconds: float, expires_at: float, *, now: float, wall: float) -> Self:
        """The lease of an earlier process, of which only the system's time is known.

        What is left is never more than was granted, wherever that clock has been set since.
        """
        left = min(expires_at - wall, seconds)
        return cls(seconds, now + left, wall + left)

    def at_most(self, seconds: float, *, now: float, wall: float) -> "Lease":
        """The same, shortened to so many seconds from now."""
        return min(self, Lease.grant(seconds, now=now, wall=wall), key=lambda one: one.deadline)

    def lapsed(self, *, now: float, wall: float) -> bool:
        """Whether it is over by either clock."""
        return now >= self.deadline or wall >= self.expires_at


def bound(stages: Iterable[str], seconds: Mapping[str, float]) -> float | None:
    """The longest lease that these stages allow, none of them `off`; None without any.

    Full has the one of mid: nothing lies beyond it that would say another.
    """
    return min((seconds[MID if stage == FULL else stage] for stage in stages), default=None)
