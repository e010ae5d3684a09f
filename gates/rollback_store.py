"""The store's part of a rollback, after the engines braked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from engine.config import ConfigError
from engine.core.flags import FLAGS
from gates.dispatching import dispatch_rollback
from gates.history import Record
from gates.policy import load_policy, policy_beside
from gates.stages import Event, Policy
from gates.standing import Cause, Standing
from gates.store import Snapshot, StoreError, insist, open_store
from gates.transitions import moved


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be written: why, who, and what the engines said."""

    flags: Sequence[str]  #: none: every flag
    cause: Cause
    reason: str
    who: str
    candidate: str  #: that the engines ran; empty when they did not agree or did not say
    brakes: Mapping[str, Sequence[str]]  #: ids by flag


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of it.

    Attributes:
        where: the store; empty when it could not be opened.
        after: the store as it is now; None when it was not written.
        flags: those that moved, with the stage before and after.
        lifted: flags whose brakes a promotion lifted meanwhile: the engines must be told again.
        trouble: why it was not written; empty when it was.
        unrecorded: why the history does not have it; empty when it does.
    """

    where: str = ""
    after: Snapshot | None = None
    flags: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    lifted: frozenset[str] = frozenset()
    trouble: str = ""
    unrecorded: str = ""


def write_rollback(config: Path, change: Change) -> Written:
    """Write the rollback into the store; what cannot be written is told, never raised."""
    where, policy = "", _policy(config)
    seen: list[Mapping[str, Standing]] = []  # by the attempts: others may write meanwhile

    def decide(before: Snapshot) -> tuple[Mapping[str, Standing], Record]:
        seen.append(before.flags)
        flags = change.flags or FLAGS
        after = moved(
            policy,
            before.flags,
            flags,
            Event.ROLLBACK,
            now=datetime.now(UTC),
            cause=change.cause,
            candidate=change.candidate,
            brakes=change.brakes,
        )
        # Flags at off are written as they stand, so that a promotion in flight has lost there too.
        return {**{flag: before.flags[flag] for flag in flags}, **after}, _record(change)

    try:
        store = open_store(config, policy)
        where = store.where
        last = insist(store, decide)
    except (ConfigError, StoreError, OSError) as error:
        told = dispatch_rollback(where, change.flags, change.reason)
        return Written(where=where, trouble="; ".join(filter(None, (str(error), told))))
    return _written(where, seen, last, change)


def _written(
    where: str, seen: list[Mapping[str, Standing]], last: Snapshot, change: Change
) -> Written:
    before = seen[-1]
    return Written(
        where=where,
        after=last,
        flags={
            flag: (before[flag].stage, standing.stage)
            for flag, standing in last.flags.items()
            if standing != before[flag]
        },
        lifted=frozenset(
            flag
            for flag, brakes in change.brakes.items()
            if any(set(brakes).intersection(flags[flag].lifted) for flags in seen)
        ),
        unrecorded=last.unrecorded,
    )


def _policy(config: Path) -> Policy:
    """A rollback uses no number of it, so a broken one must not stop it."""
    try:
        return policy_beside(config)
    except ConfigError:
        return load_policy()


def _record(change: Change) -> Record:
    return Record(
        event=Event.ROLLBACK,
        reason=change.reason,
        who=change.who,
        at=datetime.now(UTC),
        cause=change.cause,
        candidate=change.candidate,
    )
