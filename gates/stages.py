"""Stages, how a flag moves between them, doors, and the policy that `gates.yaml` states.

`TABLE` is the whole state machine of a flag: what is not in it is refused. `gates.standing` walks
it. A door stands between two stages. Going through it needs what the stage behind demands to
`leave` and what the stage ahead demands to `enter`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Final

from gates.criteria import Criterion

OFF: Final = "off"

#: Every stage in order. A flag moves one step up at a time, and down to `off` only.
STAGES: Final = (OFF, "canary", "early", "mid", "full")
FULL: Final = STAGES[-1]

#: Where a flag stands whose share no stage has, or not the one written down: by somebody's hand.
UNMANAGED: Final = "unmanaged"


class Event(StrEnum):
    """What can happen to a flag."""

    PROMOTE = "promote"  #: one stage up, by a verdict
    ROLLBACK = "rollback"  #: to 0 %, from anywhere
    HOLD = "hold"  #: no promotion until somebody resumes; what serves goes on serving
    RESUME = "resume"
    APPROVE = "approve"  #: a person's consent to the next stage
    CLEAR = "clear"  #: a person lets a candidate that was rolled back try again


class Condition(StrEnum):
    """What an event needs besides the right state. They are checked in the order given."""

    HELD = "the flag is held"
    NOT_HELD = "the flag is not held"
    NOT_BARRED = "the candidate is known and was not rolled back"
    ALONE = "no flag went to full within a day"
    ASKED = "the next stage asks for an approval"
    APPROVED = "the next stage is approved, where it asks for that"
    REASON = "a reason is given"
    BARRED = "the candidate was rolled back, or brakes are named at off"


@dataclass(frozen=True, slots=True)
class Move:
    """An entry of the table: where an event leads, what it needs, and whether the epoch rises.

    The epoch rises exactly when the share changes: a verdict or ledger of another share would be
    wrong about what serves. Hold, resume, approve and clear change who may move the flag, not what
    it serves, so the evidence stays good.
    """

    to: str
    needs: tuple[Condition, ...] = ()
    new_epoch: bool = False


def _up(to: str, *further: Condition) -> Move:
    """One stage up; the approval is the last condition."""
    conditions = (Condition.NOT_HELD, Condition.NOT_BARRED, *further, Condition.APPROVED)
    return Move(to, conditions, new_epoch=True)


_DOWN: Final = Move(OFF, new_epoch=True)
_HELD: Final = (Condition.HELD,)
_REASON: Final = (Condition.REASON,)
_ASKED: Final = (Condition.NOT_HELD, Condition.ASKED)
_CLEAR: Final = (Condition.REASON, Condition.BARRED)

#: Every state and event. A rollback stands under every state; at off it moves nothing.
TABLE: Final[Mapping[str, Mapping[Event, Move]]] = {
    OFF: {
        Event.PROMOTE: _up("canary"),
        Event.ROLLBACK: Move(OFF),
        Event.HOLD: Move(OFF, _REASON),
        Event.RESUME: Move(OFF, _HELD),
        Event.APPROVE: Move(OFF, _ASKED),
        Event.CLEAR: Move(OFF, _CLEAR),
    },
    "canary": {
        Event.PROMOTE: _up("early"),
        Event.ROLLBACK: _DOWN,
        Event.HOLD: Move("canary", _REASON),
        Event.RESUME: Move("canary", _HELD),
        Event.APPROVE: Move("canary", _ASKED),
        Event.CLEAR: Move("canary", _CLEAR),
    },
    "early": {
        Event.PROMOTE: _up("mid"),
        Event.ROLLBACK: _DOWN,
        Event.HOLD: Move("early", _REASON),
        Event.RESUME: Move("early", _HELD),
        Event.APPROVE: Move("early", _ASKED),
        Event.CLEAR: Move("early", _CLEAR),
    },
    "mid": {
        Event.PROMOTE: _up(FULL, Condition.ALONE),
        Event.ROLLBACK: _DOWN,
        Event.HOLD: Move("mid", _REASON),
        Event.RESUME: Move("mid", _HELD),
        Event.APPROVE: Move("mid", _ASKED),
        Event.CLEAR: Move("mid", _CLEAR),
    },
    FULL: {
        Event.ROLLBACK: _DOWN,
        Event.HOLD: Move(FULL, _REASON),
        Event.RESUME: Move(FULL, _HELD),
        Event.CLEAR: Move(FULL, _CLEAR),
    },
    UNMANAGED: {
        Event.ROLLBACK: _DOWN,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A share of the traffic, how long it lasts, and what its two doors demand."""

    name: str
    percentage: float
    soak_hours: float
    enter: tuple[str, ...]
    leave: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """Somebody answers for a criterion that cannot be measured here, until a date (UTC)."""

    criterion: str
    owner: str
    reason: str
    expires: str  #: the first day on which it no longer holds, ISO 8601


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of one flag; from a stage to itself where the question is whether it may stay."""

    origin: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All of `gates.yaml`."""

    criteria: Mapping[str, Criterion]
    stages: Mapping[str, Stage]
    waivers: tuple[Waiver, ...] = ()
    expected_load: float | None = None  #: requests a second at the busiest time
    retired_tests: tuple[str, ...] = ()  #: of other suites, removed on purpose

    @property
    def live(self) -> tuple[Criterion, ...]:
        """Every criterion that live traffic is judged by."""
        return tuple(c for c in self.criteria.values() if c.source == "live")

    @property
    def armed(self) -> tuple[Criterion, ...]:
        """Those that may roll a flag back, wherever it stands."""
        return tuple(c for c in self.live if c.critical)

    def required(self, step: Transition) -> tuple[Criterion, ...]:
        """What a step demands, each criterion once, in the order of `gates.yaml`.

        To stay where it is a flag must do no harm: no door is asked.
        """
        if step.origin == step.target:
            return self.armed
        leave = self.stages[step.origin].leave if step.origin in self.stages else ()
        names = dict.fromkeys((*leave, *self.stages[step.target].enter))
        return tuple(self.criteria[name] for name in names)

    def waiver(self, criterion: str, now: datetime) -> Waiver | None:
        """The waiver of a criterion that holds at this time."""
        live = (w for w in self.waivers if w.criterion == criterion and now < _expiry(w))
        return next(live, None)

    def digest(self) -> str:
        """SHA-256 of what the policy says; comments and layout do not count."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def door(stage: str, standing: str) -> Transition | None:
    """The step that a gate at `stage` judges for a flag that stands at `standing`.

    Into the stage from the one before it, out of it when the flag stands there, None when
    the flag stands elsewhere or there is no stage to go to.

    Raises:
        ValueError: for a name that is not a stage, or `off`, which has no door.
    """
    for name in (stage, standing):
        if name not in STAGES:
            raise ValueError(f"unknown stage {name!r}; allowed: {', '.join(STAGES)}")
    if stage == OFF:
        raise ValueError(f"stage 'off' has no gate; allowed: {', '.join(STAGES[1:])}")
    place = STAGES.index(stage)
    if standing == STAGES[place - 1]:
        return Transition(standing, stage)
    if standing == stage and place + 1 < len(STAGES):
        return Transition(stage, STAGES[place + 1])
    return None


def _expiry(waiver: Waiver) -> datetime:
    return datetime.fromisoformat(waiver.expires).replace(tzinfo=UTC)
