"""What an event needs beside the right state: a function for each condition. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from gates.stages import OFF, TABLE, Condition, Event, Move, Policy
from gates.standing import Cause, Standing, approval_of

#: At most one flag enters full in this time, so that each sees the daily peak alone.
FULL_EVERY: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An event with all that it came with."""

    policy: Policy
    event: Event
    now: datetime
    cause: Cause | None
    candidate: str
    reason: str
    brakes: tuple[str, ...]
    approval: frozenset[str]
    last_full: datetime | None


def refusal(standing: Standing, asked: Asked) -> str:
    """Why an event is not allowed, and what is; empty when it is allowed."""
    step = TABLE[standing.stage].get(asked.event)
    return _missing(standing, asked, step) if step else _impossible(standing)


def _impossible(standing: Standing) -> str:
    if not standing.managed:
        why = "its share was set by hand and is not the one of its stage"
        return f"{why}; allowed: {', '.join(TABLE[standing.stage])}"
    return f"there is no stage ahead; allowed: {', '.join(TABLE[standing.stage])}"


def _missing(standing: Standing, asked: Asked, step: Move) -> str:
    """The first condition that does not hold, in words; empty when all do."""
    checks = (_CONDITIONS[condition](standing, asked) for condition in step.needs)
    return next(filter(None, checks), "")


def _not_held(standing: Standing, _: Asked) -> str:
    return f"held: {standing.held}; resume it first" if standing.held else ""


def _held(standing: Standing, _: Asked) -> str:
    return "" if standing.held else "it is not held"


def _not_barred(standing: Standing, asked: Asked) -> str:
    return standing.bars(asked.candidate)


def _alone(_: Standing, asked: Asked) -> str:
    last = asked.last_full
    if last is None or asked.now - last >= FULL_EVERY:
        return ""
    free = (last + FULL_EVERY).isoformat(timespec="minutes")
    return (
        f"a flag entered full at {last.isoformat(timespec='minutes')}; "
        f"at most one in {FULL_EVERY // timedelta(hours=1)} h, so from {free}"
    )


def _asked(standing: Standing, asked: Asked) -> str:
    if standing.following in asked.approval:
        return ""
    stages = ", ".join(sorted(asked.approval)) or "none"
    return f"{standing.following} needs no approval; those that do: {stages}"


def _approved(standing: Standing, asked: Asked) -> str:
    if standing.following not in asked.approval:
        return ""
    allowed = (approval_of(standing), approval_of(standing, asked.candidate))
    if standing.approved in allowed:
        return ""
    given = repr(standing.approved) if standing.approved else "no approval"
    return f"{standing.following} needs an approval; given {given}, needed {allowed[1]!r}"


def _reason(_: Standing, asked: Asked) -> str:
    return "" if asked.reason else "it needs a reason"


def _barred(standing: Standing, asked: Asked) -> str:
    barred = tuple(filter(None, (standing.suspect, *standing.tombstones)))
    if asked.candidate in barred or (standing.stage == OFF and asked.brakes):
        return ""
    given = f"candidate {asked.candidate!r}" if asked.candidate else "no candidate"
    return f"given {given}; barred: {', '.join(barred) or 'none'}"


_CONDITIONS: Final[Mapping[Condition, Callable[[Standing, Asked], str]]] = {
    Condition.HELD: _held,
    Condition.NOT_HELD: _not_held,
    Condition.NOT_BARRED: _not_barred,
    Condition.ALONE: _alone,
    Condition.ASKED: _asked,
    Condition.APPROVED: _approved,
    Condition.REASON: _reason,
    Condition.BARRED: _barred,
}
