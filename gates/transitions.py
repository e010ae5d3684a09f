"""What an event makes of a flag's standing. Pure; it walks the table in `gates.stages`.

A verdict is not checked here: whoever promotes has checked it. This says whether the flag may move
at all, and where to.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from gates.conditions import Asked, refusal
from gates.stages import FULL, OFF, TABLE, Event, Policy
from gates.standing import CONDEMNING, UNKNOWN, Cause, Standing, approval_of

#: Lifted brakes that are remembered. An engine that returns with an older one stays braked.
LIFTED_KEPT: Final = 200


class RefusedError(ValueError):
    """An event that the state does not allow: who, where, what was given, what is allowed."""


def move(
    policy: Policy,
    standing: Standing,
    event: Event,
    *,
    now: datetime,
    flag: str = "flag",
    cause: Cause | None = None,
    candidate: str = "",
    reason: str = "",
    brakes: Iterable[str] = (),
    approval: frozenset[str] = frozenset(),
    last_full: datetime | None = None,
) -> Standing:
    """What an event makes of a standing. The same standing when it changes nothing.

    Args:
        policy: says what each stage's share is.
        standing: where the flag stands.
        event: what happens.
        now: with a time zone.
        flag: its name, for messages.
        cause: of a rollback; without one it counts as `manual`.
        candidate: what would be promoted, is rolled back, is approved, or is let in again.
        reason: of a hold or a clearance, in a person's words.
        brakes: ids of engines' brakes. A promotion, and a clearance at off, lifts them; a rollback
            says that they hold.
        approval: stages that need an approval before they are entered.
        last_full: when a flag entered full last; see `last_full`.

    Raises:
        RefusedError: the state does not allow it.
    """
    asked = Asked(
        policy=policy,
        event=event,
        now=now.astimezone(UTC).replace(microsecond=0),  # as it is written
        cause=cause,
        candidate=candidate,
        reason=" ".join(reason.split()),
        brakes=tuple(dict.fromkeys(brakes)),
        approval=approval,
        last_full=last_full,
    )
    why_not = refusal(standing, asked)
    if why_not:
        raise RefusedError(f"{flag} at {standing.stage}: {event.value} refused: {why_not}")
    return _EFFECTS[event](standing, asked)


def moved(
    policy: Policy,
    standings: Mapping[str, Standing],
    flags: Iterable[str],
    event: Event,
    *,
    now: datetime,
    cause: Cause | None = None,
    candidate: str = "",
    reason: str = "",
    brakes: Mapping[str, Iterable[str]] | None = None,
    approval: frozenset[str] = frozenset(),
    last_full: datetime | None = None,
) -> dict[str, Standing]:
    """What an event makes of several flags at once; only those that change. All or none move.

    Two flags cannot enter full by one promotion. See `move` for the arguments; `brakes` by flag.

    Raises:
        RefusedError: one of them may not move; the message names it.
    """
    after: dict[str, Standing] = {}
    for flag in dict.fromkeys(flags):
        new = move(
            policy,
            standings[flag],
            event,
            now=now,
            flag=flag,
            cause=cause,
            candidate=candidate,
            reason=reason,
            brakes=(brakes or {}).get(flag, ()),
            approval=approval,
            last_full=last_full,
        )
        if event is Event.PROMOTE and new.stage == FULL:
            last_full = now
        if new != standings[flag]:
            after[flag] = new
    return after


def last_full(standings: Iterable[Standing], entered: Iterable[datetime] = ()) -> datetime | None:
    """When a flag entered full last, whether or not it still stands there.

    Args:
        standings: all flags.
        entered: what the history knows of it.
    """
    there = (s.entered_at for s in standings if s.stage == FULL and s.entered_at)
    return max((*there, *entered), default=None)


def _entered(standing: Standing, asked: Asked) -> Standing:
    """The standing at the stage that the event leads to."""
    step = TABLE[standing.stage][asked.event]
    stage = asked.policy.stages.get(step.to)
    return replace(
        standing,
        stage=step.to,
        enabled=stage is not None,
        percentage=stage.percentage if stage else 0.0,
        entered_at=asked.now,
        epoch=standing.epoch + step.new_epoch,
        approved="",
    )


def _promote(standing: Standing, asked: Asked) -> Standing:
    return _lift(_entered(standing, asked), asked.brakes)


def _rollback(standing: Standing, asked: Asked) -> Standing:
    """To off. A flag that stands there stays as it is, but for what speaks against a candidate.

    A verdict or a crash may come after the engines braked themselves and the store followed: what
    it found is true all the same. A manual rollback takes flags that were never on with it, and
    says nothing of those.
    """
    lifted = tuple(brake for brake in standing.lifted if brake not in asked.brakes)
    standing = replace(standing, lifted=lifted)
    cause = asked.cause or Cause.MANUAL
    if standing.stage == OFF:
        told = cause in {Cause.VERDICT, Cause.CRASH} and asked.candidate
        return _bar(standing, cause, asked.candidate) if told else standing
    return _bar(_entered(standing, asked), cause, asked.candidate)


def _bar(standing: Standing, cause: Cause, candidate: str) -> Standing:
    """Keep a candidate out, as the cause of its rollback has it."""
    if cause in CONDEMNING:
        return _bury(standing, candidate or UNKNOWN)
    if cause is not Cause.UNATTRIBUTED or (candidate or UNKNOWN) in standing.tombstones:
        return standing
    # There is room for one suspect. The one before was never cleared, so it does not get away.
    return replace(_bury(standing, standing.suspect), suspect=candidate or UNKNOWN)


def _bury(standing: Standing, candidate: str) -> Standing:
    if not candidate:
        return standing
    suspect = "" if standing.suspect == candidate else standing.suspect
    tombstones = tuple(dict.fromkeys((*standing.tombstones, candidate)))
    return replace(standing, tombstones=tombstones, suspect=suspect)


def _hold(standing: Standing, asked: Asked) -> Standing:
    """Held, for each reason that was given. What was approved before is withdrawn."""
    reasons = dict.fromkeys(filter(None, (*standing.held.split("; "), asked.reason)))
    return replace(standing, held="; ".join(reasons), approved="")


def _resume(standing: Standing, _: Asked) -> Standing:
    return replace(standing, held="")


def _approve(standing: Standing, asked: Asked) -> Standing:
    return replace(standing, approved=approval_of(standing, asked.candidate))


def _clear(standing: Standing, asked: Asked) -> Standing:
    """The candidate may try again. Elsewhere than at off, lifting a brake would be a raise."""
    suspect = "" if standing.suspect == asked.candidate else standing.suspect
    tombstones = tuple(t for t in standing.tombstones if t != asked.candidate)
    cleared = replace(standing, suspect=suspect, tombstones=tombstones)
    return _lift(cleared, asked.brakes) if standing.stage == OFF else cleared


def _lift(standing: Standing, brakes: tuple[str, ...]) -> Standing:
    lifted = tuple(dict.fromkeys((*standing.lifted, *brakes)))
    return replace(standing, lifted=lifted[-LIFTED_KEPT:])


_EFFECTS: Final[Mapping[Event, Callable[[Standing, Asked], Standing]]] = {
    Event.PROMOTE: _promote,
    Event.ROLLBACK: _rollback,
    Event.HOLD: _hold,
    Event.RESUME: _resume,
    Event.APPROVE: _approve,
    Event.CLEAR: _clear,
}
