"""Where a flag stands in the rollout. `gates.transitions` says what an event makes of it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from gates.stages import OFF, TABLE, UNMANAGED, Event

#: Stands for a candidate that nobody could name; while it is barred, every candidate is.
UNKNOWN: Final = "unknown"


class Cause(StrEnum):
    """Why a flag is rolled back."""

    VERDICT = "verdict"
    CRASH = "crash"
    MANUAL = "manual"
    DRILL = "drill"
    DEAD_MAN = "dead_man"  #: the guard fell silent
    UNATTRIBUTED = "unattributed"  #: something is wrong, and no flag could be named


#: Causes that speak against the candidate itself: it does not come back.
CONDEMNING: Final = frozenset({Cause.VERDICT, Cause.CRASH, Cause.MANUAL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where one flag stands.

    Attributes:
        stage: one of `STAGES`, or `unmanaged` when the share is not the one of its stage.
        enabled: whether the flag serves at all.
        percentage: configured share of the streams, before the hold-back.
        entered_at: when it came to this stage.
        epoch: number of changes to this flag's share; verdicts and ledgers bind to it.
        salt: hashes with the key of a stream.
        held: why it is held; empty when it is not.
        approved: what was approved, as `approval_of` writes it; empty for nothing.
        suspect: a candidate that was rolled back with other flags, none of them named.
        tombstones: candidates that were rolled back and may not return.
        lifted: ids of engines' brakes that no longer hold.
    """

    stage: str = OFF
    enabled: bool = False
    percentage: float = 0.0
    entered_at: datetime | None = None
    epoch: int = 0
    salt: str = ""
    held: str = ""
    approved: str = ""
    suspect: str = ""
    tombstones: tuple[str, ...] = ()
    lifted: tuple[str, ...] = ()

    @property
    def managed(self) -> bool:
        """Whether the rollout brought the flag here, not somebody's hand."""
        return self.stage != UNMANAGED

    @property
    def following(self) -> str:
        """The stage that a promotion would lead to; empty where there is none."""
        step = TABLE[self.stage].get(Event.PROMOTE)
        return step.to if step else ""

    def bars(self, candidate: str) -> str:
        """Why a candidate may not be promoted: a few words, empty when it may be."""
        if not candidate or candidate == UNKNOWN:
            return "which build and configuration would be promoted is not known"
        for barred, how in (
            (self.tombstones, "was rolled back"),
            ((self.suspect,), "is suspect after a rollback that named no flag"),
        ):
            if candidate in barred:
                return f"candidate {candidate} {how}"
            if UNKNOWN in barred:
                return f"a candidate that nobody could name {how}"
        return ""


def candidate(commit: str, config_sha256: str) -> str:
    """A name for an engine build with a configuration, without rollout state.

    Empty when either is not known: such a candidate cannot be promoted.
    """
    if not commit or not config_sha256:
        return ""
    return f"{commit}@{config_sha256[:16]}"


def approval_of(standing: Standing, candidate: str = "") -> str:
    """What an approval is written as: the stage ahead, the epoch, and a candidate if given.

    Bound to the epoch it cannot be used twice: the promotion that uses it raises the epoch.
    """
    return " ".join(filter(None, (f"{standing.following}@{standing.epoch}", candidate)))
