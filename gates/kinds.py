"""One assessment for each kind of criterion: a group of sound measurements in, a finding out.

Statements about a group carry both numbers: what was seen and what was demanded.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf, isfinite, log
from typing import Final

from engine.core.flags import FlagSet
from gates.criteria import TIMES, Criterion, Kind, Measure, Outcome
from gates.groups import (
    CONTROL,
    TREATMENT,
    Counts,
    Group,
    error_counts,
    lost_counts,
    times,
)
from gates.paired import RatioEstimate, ratio_of_quantiles
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

#: A treatment request without a time ranks beyond every time that was measured.
_BEYOND: Final = 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one group, or one thing that is missing, says about a criterion."""

    outcome: Outcome
    reason: str
    flags: FlagSet = frozenset()  #: the flags it is about; none means that it is about all
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    limit: float | None = None
    n: int = 0
    needs: int | None = None
    attributed: bool = False  #: broken, and by the treatment rather than its surroundings
    absent: bool = False  #: nothing was planned or everything skipped: a waiver may answer for it


def assess(criterion: Criterion, group: Group) -> Finding:
    """Judge one group by one criterion.

    Raises:
        ValueError: for a kind that has no judge yet; `load_policy` lets none through.
    """
    broken = [check for check in group.checks() if not check.ok]
    if broken and criterion.kind is not Kind.INVARIANT:
        detail = f"check {broken[0].name!r} did not hold: {broken[0].detail}".rstrip(": ")
        return _finding(group, Outcome.INVALID, f"{criterion.id} {detail} ({_where(group)})")
    if criterion.measure in TIMES and any(m.workers != 1 for m in group.measurements):
        why = "measured beside other pytest workers: times need the machine to themselves"
        return _finding(group, Outcome.INCONCLUSIVE, f"{criterion.id} {why} ({_where(group)})")
    return _assessment(criterion)(criterion, group)


def _assessment(criterion: Criterion) -> Callable[[Criterion, Group], Finding]:
    match criterion.kind, criterion.measure:
        case Kind.CEILING, Measure.ERROR_RATE:
            return _error_rate
        case Kind.CEILING, Measure.TTFT | Measure.LATENCY:
            return _quantile_ceiling
        case Kind.NON_INFERIORITY, Measure.TTFT | Measure.LATENCY:
            return _non_inferiority
        case Kind.INVARIANT, Measure.CHECKS:
            return _checks
        case Kind.INVARIANT, Measure.LOST_STREAMS:
            return _lost_streams
    raise ValueError(f"{criterion.id}: kind {criterion.kind} of {criterion.measure} has no judge")


def _error_rate(criterion: Criterion, group: Group) -> Finding:
    counts = error_counts(group.samples(TREATMENT))
    control = error_counts(group.samples(CONTROL)) if group.control else None
    limit = _number(criterion.limit)
    outcome = _rate_outcome(criterion, counts, limit)
    seen = f"{criterion.id} {percent(counts.bad / counts.n)}" if counts.n else f"{criterion.id} ?"
    interval = rate_interval(counts.bad, counts.n, criterion.confidence)
    span = percent(interval.low, interval.high)
    note, attributed = _blame(criterion, counts, control) if outcome is Outcome.FAIL else ("", True)
    needs = _needed(criterion, counts, limit) if outcome is Outcome.INCONCLUSIVE else None
    return _finding(
        group,
        outcome,
        f"{seen} {_relation(outcome)} {percent(limit)} ({_confidence(criterion)} interval "
        f"{span}, n={grouped_digits(counts.n)}, {_where(group)}){note}{_asks(needs)}",
        estimate=counts.bad / counts.n if counts.n else None,
        interval=interval,
        limit=limit,
        n=counts.n,
        needs=needs,
        attributed=attributed,
    )


def _rate_outcome(criterion: Criterion, counts: Counts, limit: float) -> Outcome:
    """A failure needs no least number of requests: its bound is exact for any."""
    if surely_above(counts.bad, counts.n, limit, criterion.confidence):
        return Outcome.FAIL
    enough = counts.n >= criterion.min_samples
    if enough and surely_below(counts.bad, counts.n, limit, criterion.confidence):
        return Outcome.PASS
    return Outcome.INCONCLUSIVE


def _needed(criterion: Criterion, counts: Counts, limit: float) -> int | None:
    clean = clean_needed(counts.bad, counts.n, limit, criterion.confidence)
    return None if clean is None else max(clean, criterion.min_samples - counts.n)


def _blame(criterion: Criterion, counts: Counts, control: Counts | None) -> tuple[str, bool]:
    """Whether a broken rate is the treatment's doing, and the words for it."""
    if not criterion.attribution or control is None:
        return "", True
    chance = chance_of_excess(counts.bad, counts.n, control.bad, control.n)
    worse = chance <= 1 - criterion.confidence
    beside = f"control {control.bad} of {grouped_digits(control.n)}, p={chance:.2g}"
    return f"; {'' if worse else 'not '}confidently worse than control ({beside})", worse


def _quantile_ceiling(criterion: Criterion, group: Group) -> Finding:
    """A quantile is under a limit when few enough times are over it."""
    limit, share = _number(criterion.limit), _number(criterion.quantile)
    ranked = _worst_ranked(times(group.samples(TREATMENT), criterion.measure))
    counts = _over(ranked, limit)
    if not counts.n:
        return _finding(group, Outcome.NO_DATA, f"{criterion.id}: no request ({_where(group)})")
    control = None
    if group.control:
        control = _over(_worst_ranked(times(group.samples(CONTROL), criterion.measure)), limit)
    outcome = _rate_outcome(criterion, counts, 1 - share)
    note, attributed = _blame(criterion, counts, control) if outcome is Outcome.FAIL else ("", True)
    needs = _needed(criterion, counts, 1 - share) if outcome is Outcome.INCONCLUSIVE else None
    estimate = quantile(ranked, share)
    interval = quantile_interval(ranked, share, criterion.confidence)
    return _finding(
        group,
        outcome,
        f"{criterion.id} {ms(estimate)} {_relation(outcome)} {ms(limit)} "
        f"({_confidence(criterion)} interval {ms(interval.low, interval.high)}, "
        f"n={grouped_digits(counts.n)}, {_where(group)}){note}{_asks(needs)}",
        estimate=estimate,
        interval=interval,
        limit=limit,
        n=counts.n,
        needs=needs,
        attributed=attributed,
    )


def _worst_ranked(values: Iterable[float | None]) -> list[float]:
    return [inf if value is None else value for value in values]


def _over(values: Iterable[float], limit: float) -> Counts:
    over = [value > limit for value in values]
    return Counts(sum(over), len(over))


def _non_inferiority(criterion: Criterion, group: Group) -> Finding:
    margin, share = _number(criterion.margin), _number(criterion.quantile)
    problem, treatment, control = _pairs(criterion, group)
    if problem:
        reason = f"{criterion.id}: {problem} ({_where(group)})"
        return _finding(group, Outcome.INCONCLUSIVE, reason, limit=margin, n=len(control))
    ratio = ratio_of_quantiles(treatment, control, share, criterion.confidence)
    outcome = _ratio_outcome(criterion, ratio, margin)
    needs = _pairs_needed(criterion, ratio, margin) if outcome is Outcome.INCONCLUSIVE else None
    quantiles = f"{ms(quantile(treatment, share))} against {ms(quantile(control, share))}"
    return _finding(
        group,
        outcome,
        f"{criterion.id} {ratio.estimate:.3g} {_relation(outcome)} {margin:g} "
        f"({_confidence(criterion)} interval {ratio.low:.3g}-{ratio.high:.3g}, "
        f"n={grouped_digits(ratio.pairs)} pairs, {quantiles}, {_where(group)}){_asks(needs)}",
        estimate=ratio.estimate,
        interval=Interval(ratio.low, ratio.high),
        limit=margin,
        n=ratio.pairs,
        needs=needs,
        attributed=True,
    )


def _ratio_outcome(criterion: Criterion, ratio: RatioEstimate, margin: float) -> Outcome:
    if ratio.low > margin:
        return Outcome.FAIL
    if ratio.high <= margin and ratio.pairs >= criterion.min_samples:
        return Outcome.PASS
    return Outcome.INCONCLUSIVE


def _pairs_needed(criterion: Criterion, ratio: RatioEstimate, margin: float) -> int | None:
    """About how many further pairs: an interval narrows with the square root of their number."""
    missing = max(criterion.min_samples - ratio.pairs, 1)
    if ratio.estimate >= margin or not isfinite(ratio.high):
        return missing if ratio.pairs < criterion.min_samples else None
    wide, room = log(ratio.high / ratio.estimate), log(margin / ratio.estimate)
    return max(missing, int(ratio.pairs * ((wide / room) ** 2 - 1)) + 1)


def _pairs(criterion: Criterion, group: Group) -> tuple[str, list[float], list[float]]:
    """The times of both arms, pair by pair, or what stands in the way of pairing them."""
    treatment: list[float | None] = []
    control: list[float | None] = []
    for measurement in group.measurements:
        arms = {
            arm: times((s for s in measurement.samples if s.arm == arm), criterion.measure)
            for arm in (TREATMENT, CONTROL)
        }
        if len(arms[TREATMENT]) != len(arms[CONTROL]):
            sizes = f"{len(arms[TREATMENT])} treatment and {len(arms[CONTROL])} control requests"
            return f"{sizes} do not pair", [], []
        treatment += arms[TREATMENT]
        control += arms[CONTROL]
    known = [time for time in control if time is not None]
    if not known:
        return "no control to compare with", [], []
    if len(known) < len(control):
        missing = len(control) - len(known)
        return f"{missing} of {len(control)} control requests have no time", [], []
    beyond = _BEYOND * max(known + [time for time in treatment if time is not None])
    return "", [beyond if time is None else time for time in treatment], known


def _checks(criterion: Criterion, group: Group) -> Finding:
    checks = list(group.checks())
    broken = [check for check in checks if not check.ok]
    detail = ", ".join(f"{c.name}{f' ({c.detail})' if c.detail else ''}" for c in broken[:3])
    return _invariant(criterion, group, Counts(len(broken), len(checks)), "checks broken", detail)


def _lost_streams(criterion: Criterion, group: Group) -> Finding:
    """Streams and checks alike: a registry that is not empty is a lost stream too."""
    counts = lost_counts(group.samples(TREATMENT))
    broken = [check for check in group.checks() if not check.ok]
    detail = ", ".join(check.name for check in broken[:3])
    both = Counts(counts.bad + len(broken), counts.n + len(broken))
    finding = _invariant(criterion, group, both, "streams lost", detail)
    if finding.outcome is Outcome.FAIL and criterion.attribution and group.control:
        control = lost_counts(group.samples(CONTROL))
        return _replace_blame(finding, control)
    return finding


def _replace_blame(finding: Finding, control: Counts) -> Finding:
    """Control that loses streams as well points at what both arms stand on."""
    if not control.bad:
        return finding
    note = f"; control lost {control.bad} of {grouped_digits(control.n)} as well"
    return Finding(
        outcome=finding.outcome,
        reason=finding.reason + note,
        flags=finding.flags,
        estimate=finding.estimate,
        limit=finding.limit,
        n=finding.n,
        attributed=False,
    )


def _invariant(
    criterion: Criterion, group: Group, counts: Counts, words: str, detail: str
) -> Finding:
    missing = max(criterion.min_samples - counts.n, 0)
    outcome = Outcome.FAIL if counts.bad else Outcome.INCONCLUSIVE if missing else Outcome.PASS
    needs = missing if outcome is Outcome.INCONCLUSIVE else None
    relation = ">" if counts.bad else "="
    return _finding(
        group,
        outcome,
        f"{criterion.id} {counts.bad} {relation} 0 {words} (n={grouped_digits(counts.n)}, "
        f"{_where(group)}){f': {detail}' if detail else ''}{_asks(needs)}",
        estimate=float(counts.bad),
        limit=0.0,
        n=counts.n,
        needs=needs,
        attributed=True,
    )


def _finding(
    group: Group,
    outcome: Outcome,
    reason: str,
    *,
    estimate: float | None = None,
    interval: Interval | None = None,
    limit: float | None = None,
    n: int = 0,
    needs: int | None = None,
    attributed: bool = False,
) -> Finding:
    return Finding(
        outcome=outcome,
        reason=reason,
        flags=group.flags,
        estimate=estimate,
        interval=(interval.low, interval.high) if interval else None,
        limit=limit,
        n=n,
        needs=needs,
        attributed=attributed and outcome is Outcome.FAIL,
    )


def _relation(outcome: Outcome) -> str:
    return {Outcome.FAIL: ">", Outcome.PASS: "<="}.get(outcome, "not shown to be <=")


def _asks(needs: int | None) -> str:
    return f"; needs about {grouped_digits(needs)} more" if needs else ""


def _confidence(criterion: Criterion) -> str:
    return f"{100 * criterion.confidence:g} %"


def _where(group: Group) -> str:
    return f"flags={group.flag_set}" + (f", model={group.model}" if group.model else "")


def _number(value: float | None) -> float:
    if value is None:  # the policy refuses a criterion without the numbers of its kind
        raise ValueError("a criterion lacks a number that its kind needs")
    return value
