"""Rates against a limit: of bad requests, of times beyond a ceiling, of prompts read before.

A quantile under a ceiling is a rate of times beyond it; a floor under the rate of good
requests is a ceiling over the rate of the others.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Any

from gates.criteria import Criterion, Outcome
from gates.findings import Finding, Show, compared, number, plain
from gates.groups import CONTROL, TREATMENT, Counts, Group, error_counts, hit_counts, times
from gates.statistics import (
    Interval,
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
    judged = _Judged.of(criterion, counts, limit, control)
    return judged.finding(
        criterion,
        group,
        percent,
        estimate=counts.bad / counts.n if counts.n else None,
        interval=rate_interval(counts.bad, counts.n, criterion.confidence),
        limit=limit,
        n=counts.n,
    )


def quantile_ceiling(criterion: Criterion, group: Group) -> Finding:
    """A quantile of a time under `limit`: few enough requests took longer, or never ended well."""
    limit, share = number(criterion, "limit"), number(criterion, "quantile")
    ranked = _ranked(times(group.samples(TREATMENT), criterion.measure, limit))
    if not ranked:
        return plain(criterion, group, Outcome.NO_DATA, "no request", limit=limit)
    counts = _over(ranked, limit)
    control = _over(_ranked(times(group.samples(CONTROL), criterion.measure, limit)), limit)
    judged = _Judged.of(criterion, counts, 1 - share, control if group.control else None)
    return judged.finding(
        criterion,
        group,
        ms,
        estimate=quantile(ranked, share),
        interval=quantile_interval(ranked, share, criterion.confidence),
        limit=limit,
        n=counts.n,
    )


def hit_rate(criterion: Criterion, group: Group) -> Finding:
    """The share of requests that found a part of their prompt already read, over `limit`."""
    limit = number(criterion, "limit")
    hits = hit_counts(group.samples(TREATMENT))
    if hits is None:
        return plain(criterion, group, Outcome.NO_DATA, "the engine does not tell hits")
    missed = Counts(hits.n - hits.bad, hits.n)
    judged = _Judged.of(criterion, missed, 1 - limit, None)
    rate = rate_interval(missed.bad, missed.n, criterion.confidence)
    return judged.finding(
        criterion,
        group,
        percent,
        estimate=hits.bad / hits.n if hits.n else None,
        interval=Interval(1 - rate.high, 1 - rate.low),
        limit=limit,
        n=hits.n,
    )


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a rate of bad requests comes to."""

    outcome: Outcome
    needs: int | None
    blame: str
    attributed: bool

    @classmethod
    def of(
        cls, criterion: Criterion, counts: Counts, limit: float, control: Counts | None
    ) -> "_Judged":
        """Judge a rate by a limit, and by the control's where there is one."""
        outcome = _outcome(criterion, counts, limit)
        needs = _needed(criterion, outcome, counts, limit)
        return cls(outcome, needs, *_blame(criterion, outcome, counts, control))

    def finding(self, criterion: Criterion, group: Group, show: Show, **numbers: Any) -> Finding:
        """In words; `numbers` as for `compared`."""
        return compared(
            criterion,
            group,
            self.outcome,
            show,
            blame=self.blame,
            needs=self.needs,
            attributed=self.attributed,
            **numbers,
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
