"""The numbers of a verdict as people see them. Pure.

The terminal, `summary.md`, `junit.xml`, the step's summary and the report all write what stands
here, so that none of them can state another number than the others.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gates.criteria import WORST_FIRST, Outcome
from gates.verdict import CriterionRow, Verdict

#: What stands for a number that nobody has.
UNKNOWN: Final = "?"

#: What stands where a criterion has no interval, or needs nothing further.
NONE: Final = "-"

#: Digits at which a number is still read at a glance; the verdict itself keeps six.
_DIGITS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One criterion in words; every field is as it is printed."""

    id: str
    outcome: str
    estimate: str
    interval: str
    limit: str
    n: str
    needs: str
    source: str
    stretch: str
    reason: str

    def facts(self) -> Iterator[tuple[str, str]]:
        """The numbers with their names, for forms that have no columns."""
        for name in ("estimate", "interval", "limit", "n", "needs", "source"):
            yield name, getattr(self, name)


def shown(row: CriterionRow) -> Shown:
    """A criterion as all forms print it."""
    return Shown(
        id=row.id,
        outcome=f"{row.outcome} (waived)" if row.waived else str(row.outcome),
        estimate=number(row.estimate),
        interval=NONE if row.interval is None else " to ".join(number(end) for end in row.interval),
        limit=number(row.limit),
        n=str(row.n),
        needs=NONE if row.needs is None else f"about {row.needs}",
        source=row.source,
        stretch=NONE if row.stretch is None else str(row.stretch),
        reason=" ".join(row.reason.split()),
    )


def number(value: float | None) -> str:
    """A number at a glance; `?` for one that is not there or not finite."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{value:.{_DIGITS}g}"


def worst_first(verdict: Verdict) -> list[CriterionRow]:
    """The criteria, what is broken before what is doubtful before what is met."""
    return sorted(verdict.criteria, key=lambda row: WORST_FIRST.index(row.outcome))


def in_the_way(verdict: Verdict) -> list[CriterionRow]:
    """The criteria that keep it from a promotion, the worst first."""
    return [r for r in worst_first(verdict) if r.outcome is not Outcome.PASS and not r.waived]
