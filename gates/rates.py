"""Ceilings: a rate of bad requests, or a quantile of a time as the rate of times beyond it."""

from collections.abc import Iterable
from math import inf

from gates.criteria import Criterion, Outcome
from gates.findings import Finding, asks, number, relation, span, where
from gates.groups import CONTROL, TREATMENT, Counts, Group, error_counts, times
from gates.statistics import (
    chance_of_excess,
    clean_needed,
    quantile,
    quantile_interval,
    rate_interval,
    surely_above,
    surely_below,
)
from gates.text import grouped_digits, ms, percent


def error_rate(criterion: Criterion, group: Group) -> Finding:
    """The error rate of the treatment arm under `limit`."""
    limit = number(criterion, "limit")
    counts = error_counts(group.samples(TREATMENT))
    control = error_counts(group.samples(CONTROL)) if group.control else None
    outcome = _outcome(criterion, counts, limit)
    blame, attributed = _blame(criterion, outcome, counts, control)
    needs = _needed(criterion, outcome, counts, limit)
    interval = rate_interval(counts.bad, counts.n, criterion.confidence)
    estimate = counts.bad / counts.n if counts.n else None
    seen = "of no request" if estimate is None else percent(estimate)
    return Finding(
        outcome=outcome,
        reason=(
            f"{criterion.id} {seen} {relation(outcome)} {percent(limit)} "
            f"({span(criterion, percent(interval.low, interval.high))}, "
            f"n={grouped_digits(counts.n)}, {where(group)}){blame}{asks(needs)}"
        ),
        flags=group.flags,
        estimate=estimate,
        interval=interval,
        limit=limit,
        n=counts.n,
        needs=needs,
        attributed=attributed,
    )


def quantile_ceiling(criterion: Criterion, group: Group) -> Finding:
    """A quantile of a time under `limit`: few enough requests took longer, or never ended well."""
    limit, share = number(criterion, "limit"), number(criterion, "quantile")
    ranked = _ranked(times(group.samples(TREATMENT), criterion.measure, limit))
    if not ranked:
        reason = f"{criterion.id}: no request ({where(group)})"
        return Finding(outcome=Outcome.NO_DATA, reason=reason, flags=group.flags, limit=limit)
    counts = _over(ranked, limit)
    control = _over(_ranked(times(group.samples(CONTROL), criterion.measure, limit)), limit)
    outcome = _outcome(criterion, counts, 1 - share)
    blame, attributed = _blame(criterion, outcome, counts, control if group.control else None)
    needs = _needed(criterion, outcome, counts, 1 - share)
    estimate = quantile(ranked, share)
    interval = quantile_interval(ranked, share, criterion.confidence)
    return Finding(
        outcome=outcome,
        reason=(
            f"{criterion.id} {ms(estimate)} {relation(outcome)} {ms(limit)} "
            f"({span(criterion, ms(interval.low, interval.high))}, "
            f"n={grouped_digits(counts.n)}, {where(group)}){blame}{asks(needs)}"
        ),
        flags=group.flags,
        estimate=estimate,
        interval=interval,
        limit=limit,
        n=counts.n,
        needs=needs,
        attributed=attributed,
    )


def _outcome(criterion: Criterion, counts: Counts, limit: float) -> Outcome:
    """A failure needs no least number of requests: its bound is exact for any."""
    if surely_above(counts.bad, counts.n, limit, criterion.confidence):
        return Outcome.FAIL
    enough = counts.n >= criterion.min_samples
    if enough and surely_below(counts.bad, counts.n, limit, criterion.confidence):
        return Outcome.PASS
    return Outcome.INCONCLUSIVE


def _needed(criterion: Criterion, outcome: Outcome, counts: Counts, limit: float) -> int | None:
    if outcome is not Outcome.INCONCLUSIVE:
        return None
    clean = clean_needed(counts.bad, counts.n, limit, criterion.confidence)
    return None if clean is None else max(clean, criterion.min_samples - counts.n)


def _blame(
    criterion: Criterion, outcome: Outcome, counts: Counts, control: Counts | None
) -> tuple[str, bool]:
    """The words for, and whether, a broken rate is the treatment's doing."""
    if outcome is not Outcome.FAIL:
        return "", False
    if not criterion.attribution or control is None:
        return "", True
    chance = chance_of_excess(counts.bad, counts.n, control.bad, control.n)
    worse = chance <= 1 - criterion.confidence
    beside = f"control {control.bad} of {grouped_digits(control.n)}, p={chance:.2g}"
    return f"; {'' if worse else 'not '}confidently worse than control ({beside})", worse


def _ranked(values: Iterable[float | None]) -> list[float]:
    """A request without a time ranks beyond every time."""
    return [inf if value is None else value for value in values]


def _over(values: Iterable[float], limit: float) -> Counts:
    over = [value > limit for value in values]
    return Counts(sum(over), len(over))
