"""What a check looks at, and what it answers. Pure data."""

from dataclasses import dataclass
from enum import StrEnum

from chaos.experiment import Experiment
from chaos.record import Effect, Record


class Weight(StrEnum):
    """What an objection is to."""

    FAIL = "fail"
    UNKNOWN = "inconclusive"


@dataclass(frozen=True, slots=True)
class Objection:
    """One thing that does not hold, or of which nobody can tell."""

    weight: Weight
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a check looks at."""

    experiment: Experiment
    record: Record
    effect: Effect


def fail(why: str) -> Objection:
    """A promise that was broken."""
    return Objection(Weight.FAIL, why)


def unknown(why: str) -> Objection:
    """Something that nobody can tell."""
    return Objection(Weight.UNKNOWN, why)
