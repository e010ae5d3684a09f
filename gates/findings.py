"""A finding: what one group, or one thing that is missing, says about a criterion."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from engine.core.flags import FlagSet
from gates.criteria import HIGHER, Criterion, Kind, Outcome
from gates.evidence import REPORT_ITEM
from gates.groups import Group
from gates.statistics import Interval
from gates.text import grouped_digits

_LOWER: Final = {Outcome.FAIL: ">", Outcome.PASS: "<="}
_HIGHER: Final = {Outcome.FAIL: "<", Outcome.PASS: ">="}

#: Writes a number, or the two ends of an interval.
Show = Callable[..., str]


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
    shared: bool = False  #: so are other flags, and nobody can tell which of them did it
    absent: bool = False  #: nothing was planned, or all was skipped: a waiver may answer for it


def compared(
    criterion: Criterion,
    group: Group,
    outcome: Outcome,
    show: Show,
    *,
    estimate: float | None,
    interval: Interval,
    limit: float,
    n: int,
    seen: str = "",
    bounds: str | None = None,
    of: str = "",
    blame: str = "",
    needs: int | None = None,
    attributed: bool = False,
) -> Finding:
    """A finding that holds a number against a limit, in the words of every other such one.

    Args:
        criterion: the demand.
        group: what was measured.
        outcome: how it turned out.
        show: writes numbers of this kind.
        estimate: the number; None where there is none.
        interval: its bounds.
        limit: what it is held against, in the unit of the estimate.
        n: observations.
        seen: words for the estimate (default: as `show` writes it).
        bounds: words for an interval that is no statement of confidence; may be empty.
        of: what follows the number of observations.
        blame: words on whose doing it is.
        needs: further observations that would tell.
        attributed: whether it is broken by the treatment.
    """
    if bounds is None:
        bounds = span(criterion, show(interval.low, interval.high))
    told = f"{bounds}, n={grouped_digits(n)}{of}" if bounds else f"n={grouped_digits(n)}{of}"
    words = seen or ("of no request" if estimate is None else show(estimate))
    return Finding(
        outcome=outcome,
        reason=(
            f"{criterion.id} {words} {relation(criterion, outcome)} {show(limit)} "
            f"({told}, {where(group)}){blame}{asks(needs)}"
        ),
        flags=group.flags,
        estimate=estimate,
        interval=interval,
        limit=limit,
        n=n,
        needs=needs,
        attributed=attributed,
    )


def by_interval(
    criterion: Criterion,
    group: Group,
    show: Show,
    *,
    interval: Interval,
    limit: float,
    n: int,
    needs: int | None = None,
    **words: Any,
) -> Finding:
    """A finding of an interval that is held against a limit; broken is the treatment's doing.

    Args:
        criterion: the demand.
        group: what was measured.
        show: writes numbers of this kind.
        interval: what is known.
        limit: what it is held against.
        n: observations.
        needs: further observations that would tell, beyond the least number.
        **words: as for `compared`.
    """
    outcome = standing(criterion, interval, limit, n)
    missing = max(criterion.min_samples - n, needs or 0, 0) or None
    return compared(
        criterion,
        group,
        outcome,
        show,
        interval=interval,
        limit=limit,
        n=n,
        needs=missing if outcome is Outcome.INCONCLUSIVE else None,
        attributed=outcome is Outcome.FAIL,
        **words,
    )


def plain(
    criterion: Criterion, group: Group, outcome: Outcome, words: str, **fields: Any
) -> Finding:
    """A finding in words alone: what stands in the way of a number."""
    reason = f"{criterion.id}: {words} ({where(group)})"
    return Finding(outcome=outcome, reason=reason, flags=group.flags, **fields)


def standing(criterion: Criterion, interval: Interval, limit: float, n: int) -> Outcome:
    """How an interval stands to a limit: beyond it, on its good side, or across it.

    A failure needs no least number of observations: its bound holds for any. An improvement
    that may be none is none.
    """
    if criterion.measure in HIGHER:
        interval, limit = Interval(-interval.high, -interval.low), -limit
    if interval.low > limit:
        return Outcome.FAIL
    strict = criterion.kind is Kind.IMPROVEMENT
    met = interval.high < limit if strict else interval.high <= limit
    return Outcome.PASS if met and n >= criterion.min_samples else Outcome.INCONCLUSIVE


def relation(criterion: Criterion, outcome: Outcome) -> str:
    """How an estimate stands to its limit."""
    signs = _HIGHER if criterion.measure in HIGHER else _LOWER
    return signs.get(outcome, f"not shown to be {signs[Outcome.PASS]}")


def span(criterion: Criterion, text: str) -> str:
    """An interval with its confidence: that of each end alone."""
    return f"{100 * criterion.confidence_of_a_look:.3g} % interval {text}"


def where(group: Group) -> str:
    """The flag set and the model of a group; of a report of another program, its name."""
    if group.item.startswith(REPORT_ITEM):
        return group.item
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
