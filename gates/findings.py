"""A finding: what one group, or one thing that is missing, says about a criterion."""

from dataclasses import dataclass
from typing import Final

from engine.core.flags import FlagSet
from gates.criteria import Criterion, Outcome
from gates.groups import Group
from gates.statistics import Interval
from gates.text import grouped_digits

_RELATIONS: Final = {Outcome.FAIL: ">", Outcome.PASS: "<="}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One statement with the numbers behind it. The reason carries what was seen and demanded."""

    outcome: Outcome
    reason: str
    flags: FlagSet = frozenset()  #: the flags it is about; none means that it is about all
    estimate: float | None = None
    interval: Interval | None = None
    limit: float | None = None
    n: int = 0
    needs: int | None = None  #: further observations, about, to tell
    attributed: bool = False  #: broken, and by the treatment rather than its surroundings
    absent: bool = False  #: nothing was planned, or all was skipped: a waiver may answer for it


def relation(outcome: Outcome) -> str:
    """How an estimate stands to its limit."""
    return _RELATIONS.get(outcome, "not shown to be <=")


def span(criterion: Criterion, text: str) -> str:
    """An interval with its confidence: that of each end alone."""
    return f"{100 * criterion.confidence_of_a_look:.3g} % interval {text}"


def where(group: Group) -> str:
    """The flag set and the model of a group."""
    return f"flags={group.flag_set}" + (f", model={group.model}" if group.model else "")


def asks(needs: int | None) -> str:
    """How much more would tell, empty when that is not known."""
    return f"; needs about {grouped_digits(needs)} more" if needs else ""


def number(criterion: Criterion, name: str) -> float:
    """A number that the kind of a criterion needs.

    Raises:
        ValueError: when it has none; `load_policy` lets no such criterion through.
    """
    value: float | None = getattr(criterion, name)
    if value is None:
        raise ValueError(f"criterion {criterion.id!r} has no {name!r}, which its kind needs")
    return value
