"""What a watched criterion says, in words and numbers."""

from math import ceil

from gates.counting import Slower
from gates.criteria import Criterion, Kind, Outcome
from gates.findings import Finding, number
from gates.ledger import Header
from gates.ledger_fold import clock
from gates.live_health import BACKSTOP_MINUTES, BACKSTOP_TIMES
from gates.planning import further_needed
from gates.statistics import rate_interval
from gates.text import grouped_digits, ms, percent
from gates.watch import Watch, limit_of


def of_backstop(criterion: Criterion, fired: int) -> Finding:
    """About every flag: nobody can say whose doing it is, and nobody has time to find out."""
    return Finding(
        outcome=Outcome.FAIL,
        reason=(
            f"{criterion.id} over {BACKSTOP_TIMES} times {_limit(criterion)} in both arms for "
            f"{BACKSTOP_MINUTES} valid minutes, until {clock(fired)}: every flag is rolled back"
        ),
        limit=criterion.limit,
        attributed=True,
    )


def of_watch(watch: Watch, header: Header, rate: float) -> Finding:
    """How a criterion stands.

    Args:
        watch: of the criterion.
        header: of its ledger.
        rate: requests of the treatment a minute, at present.
    """
    return (_ceiling if watch.criterion.kind is Kind.CEILING else _comparison)(watch, header, rate)


def _ceiling(watch: Watch, header: Header, rate: float) -> Finding:
    criterion = watch.criterion
    n, bad, control_n, control_bad = (int(total) for total in watch.sums)
    outcome, since = _outcome(watch)
    interval = rate_interval(min(bad, n), n, criterion.confidence)
    needs = _needed(watch, n, bad) if outcome is Outcome.INCONCLUSIVE else None
    share = bad / n if n else 0.0
    relation = {Outcome.FAIL: ">", Outcome.PASS: "<="}.get(outcome, "not shown to be <=")
    return Finding(
        outcome=outcome,
        reason=(
            f"{criterion.id} {percent(share)} {_over(criterion)}{relation} "
            f"{percent(limit_of(criterion))} "
            f"({100 * criterion.confidence:g} % interval {percent(interval.low, interval.high)}, "
            f"n={grouped_digits(n)}, flags={header.flag}; control {grouped_digits(control_bad)} "
            f"of {grouped_digits(control_n)}){since}{_asks(needs, rate)}"
        ),
        flags=frozenset({header.flag}),
        estimate=share,
        interval=interval,
        limit=limit_of(criterion),
        n=n,
        needs=needs,
        attributed=watch.broken is not None,
    )


def _comparison(watch: Watch, header: Header, rate: float) -> Finding:
    criterion, margin = watch.criterion, number(watch.criterion, "margin")
    n, bad, control_n, control_bad = (int(total) for total in watch.sums)
    outcome, since = _outcome(watch)
    needs = _by_slope(watch, n) if outcome is Outcome.INCONCLUSIVE else None
    share, reference = (_share(bad, n), _share(control_bad, control_n))
    relation = {Outcome.FAIL: "more than", Outcome.PASS: "fewer than"}.get(
        outcome, "not shown to be fewer than"
    )
    return Finding(
        outcome=outcome,
        reason=(
            f"{criterion.id} {percent(share)} of the treatment's requests {_what(watch)}, "
            f"{relation} control's {percent(reference)} (n={grouped_digits(n)} and "
            f"{grouped_digits(control_n)}, flags={header.flag}){since}{_asks(needs, rate)}"
        ),
        flags=frozenset({header.flag}),
        estimate=share / reference if reference else None,
        limit=margin,
        n=n,
        needs=needs,
        attributed=watch.broken is not None,
    )


def _outcome(watch: Watch) -> tuple[Outcome, str]:
    if watch.broken:
        minute, n, bad = watch.broken
        worse = "confidently worse than control" if watch.criterion.attribution else "confidently"
        return Outcome.FAIL, (
            f"; {worse} at {clock(minute)}, after {grouped_digits(bad)} of {grouped_digits(n)}"
        )
    if watch.over:
        where = "in both arms" if watch.over_in_control else "not worse than control"
        return Outcome.FAIL, f"; over the limit now, {where}: not the treatment's doing, page"
    return (Outcome.PASS if watch.met else Outcome.INCONCLUSIVE), ""


def _needed(watch: Watch, n: int, bad: int) -> int | None:
    """Further requests at the rate seen so far; evidence counts for less by the design effect."""
    missing = max(watch.criterion.min_samples - n, 0)
    alpha, effect, limit = 1 - watch.criterion.confidence, watch.effect, limit_of(watch.criterion)
    more = further_needed(bad / effect, n / effect, limit, bad / n if n else 0.0, alpha)
    return None if more is None else max(ceil(more * effect), missing)


def _by_slope(watch: Watch, n: int) -> int | None:
    """Evidence grows about in proportion to the requests, if it grows."""
    missing = max(watch.criterion.min_samples - n, 0)
    slope = watch.slope
    if slope <= 0:
        return missing or None
    return max(missing, ceil((watch.threshold_met - watch.log_evidence_met) / slope), 1)


def _asks(needs: int | None, rate: float) -> str:
    if not needs:
        return ""
    time = f", {_time(needs / rate)} at {rate / 60:.2g} a second" if rate else ""
    return f"; needs about {grouped_digits(needs)} more{time}"


def _time(minutes: float) -> str:
    hours = minutes / 60
    return f"{minutes:.0f} min" if hours < 1 else f"{hours:.1f} h"


def _what(watch: Watch) -> str:
    criterion = watch.criterion
    if isinstance(watch.counting, Slower):
        ratio = watch.counting.ratios[1]
        return f"took over {ratio:.3g} times the control's P{100 * watch.counting.quantile:g}"
    return f"ended as {criterion.measure.value}, at a margin of {number(criterion, 'margin'):g}"


def _over(criterion: Criterion) -> str:
    return "" if criterion.quantile is None else f"over {_limit(criterion)} "


def _limit(criterion: Criterion) -> str:
    limit = number(criterion, "limit")
    return percent(limit) if criterion.quantile is None else ms(limit)


def _share(bad: int, n: int) -> float:
    return bad / n if n else 0.0
