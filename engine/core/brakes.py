"""An engine's own word that a flag serves nobody, stronger than any file.

A brake stands until a state of the store cites its id in `lifted`. So a rollback holds also
where the store cannot be written, and a copy of the configuration that was put back cannot
undo it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from engine.core.flags import FlagState


class Cause(StrEnum):
    """Why a flag was rolled back."""

    VERDICT = "verdict"
    CRASH = "crash"
    MANUAL = "manual"
    DRILL = "drill"
    DEAD_MAN = "dead_man"
    UNATTRIBUTED = "unattributed"


#: The cause of a brake whose file tells none: it is torn, or the engine's memory is.
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Brake:
    """One flag's brake.

    Attributes:
        id: what a state cites to lift it; drawn, so that no state can cite it by chance.
        cause: a `Cause`, or `UNKNOWN`.
        reason: in words.
        at: seconds since 1970.
    """

    id: str
    cause: str
    reason: str = ""
    at: float = 0.0


Brakes = Mapping[str, Brake]


def braked(states: Mapping[str, FlagState], brakes: Iterable[str]) -> dict[str, FlagState]:
    """What serves of these states while these flags are braked."""
    stopped = frozenset(brakes)
    return {
        name: FlagState(0.0, state.salt) if name in stopped else state
        for name, state in states.items()
    }


def standing(brakes: Brakes, lifted: Mapping[str, Iterable[str]]) -> dict[str, Brake]:
    """The brakes that a state leaves: all whose id it does not cite for their own flag."""
    return {
        name: brake for name, brake in brakes.items() if brake.id not in tuple(lifted.get(name, ()))
    }
