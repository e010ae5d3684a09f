"""Whether a transition can reach a verdict: before it starts, not after three days. Pure.

Each ceiling of the door is turned around: how many requests it needs if all of them are good,
how many at the rate that is supposed, and how likely the soak then ends with a pass. Beside
it, the sizes of the requirements and what they can show.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil, log, sqrt
from statistics import NormalDist
from typing import Final

from gates.criteria import TIMES, Criterion, Kind, Measure
from gates.findings import number
from gates.planning import Reach, expected_needed, reach
from gates.stages import STAGES, Policy, Transition
from gates.statistics import clean_needed
from gates.text import grouped_digits, ms, percent

#: A soak is called long enough when it is likelier than not to end with a pass.
LIKELY: Final = 0.5
#: Of the requests over a quantile's limit that are allowed, the share that is supposed to be.
_SLOW: Final = 0.5
#: The spread of the logarithm of a time to first token, as measured on the models of the facts.
_SPREAD: Final = 0.3
#: The targets of the requirements: 550 ms of 800 ms, in a suite of 100 requests; 1,000 requests
#: for an error rate of 0.1 %, and as many for leaks.
_TARGET_RATIO: Final = 550 / 800
_TTFT_SIZE: Final = 100
_ERROR_SIZE: Final = 1_000


class PlanError(ValueError):
    """What cannot be planned. One line for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One ceiling of a door, and what the soak can show about it."""

    id: str
    limit: float  #: of the rate of bad requests
    supposed: float  #: their true rate
    reach: Reach
    hours: float | None  #: until about half of all attempts have passed; None for never

    @property
    def reachable(self) -> bool:
        """Whether the soak is long enough."""
        return self.reach.possible and self.reach.chance >= LIKELY


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A sample size of the requirements, and what its claim needs, in observations."""

    claim: str
    size: int
    needs: int | None  #: None for never
    note: str = ""

    @property
    def reachable(self) -> bool:
        """Whether the size can show the claim."""
        return self.needs is not None and self.needs <= self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A transition at some traffic."""

    step: Transition
    rate: float  #: requests a second with the flag on
    fleet_rate: float  #: of the fleet, at the stage's share
    soak_hours: float
    rows: tuple[Row, ...]
    sizes: tuple[Size, ...]

    @property
    def reachable(self) -> bool:
        """Whether every ceiling can be shown within the soak."""
        return all(row.reachable for row in self.rows)


def plan(policy: Policy, stage: str, *, rate: float, error_rate: float) -> Plan:
    """Plan the step out of a stage.

    Args:
        policy: its criteria and soaks.
        stage: where the flag stands.
        rate: requests a second that the flag's treatment gets.
        error_rate: the true share of errors that is supposed.

    Raises:
        PlanError: a stage without a soak, or a number that cannot be.
    """
    if stage not in STAGES[1:-1]:
        allowed = ", ".join(STAGES[1:-1])
        raise PlanError(f"stage {stage!r} has no soak to plan; allowed: {allowed}")
    if not 0 < rate < float("inf"):
        raise PlanError(f"--rate {rate:g}; allowed: requests a second above 0")
    if not 0 <= error_rate < 1:
        raise PlanError(f"--error-rate {error_rate:g}; allowed: a share, 0 to below 1")
    step = Transition(stage, STAGES[STAGES.index(stage) + 1])
    soak = policy.stages[stage].soak_hours
    return Plan(
        step=step,
        rate=rate,
        fleet_rate=100 * rate / policy.stages[stage].percentage,
        soak_hours=soak,
        rows=tuple(_row(c, rate, soak, error_rate) for c in ceilings(policy, step)),
        sizes=tuple(dict.fromkeys(sizes(policy))),
    )


def ceilings(policy: Policy, step: Transition) -> list[Criterion]:
    """The ceilings that a soak must show: those of live traffic, and the error rate always.

    Where no door lists live ones, all that the policy knows; where it knows none, those of tests.
    """
    listed = _ceilings(policy.required(step))
    known = _ceilings(policy.criteria.values())
    live = [c for c in listed if c.source == "live"] or [c for c in known if c.source == "live"]
    found = live or listed
    if any(c.measure is Measure.ERROR_RATE for c in found):
        return found
    errors = [c for c in known if c.measure is Measure.ERROR_RATE and c.critical]
    return [*found, *([c for c in errors if c.source == "live"] or errors)]


def _ceilings(criteria: Iterable[Criterion]) -> list[Criterion]:
    rates = TIMES | {Measure.ERROR_RATE}
    return [c for c in criteria if c.kind is Kind.CEILING and c.measure in rates]


def sizes(policy: Policy) -> Iterator[Size]:
    """The sizes of the requirements against what their claims need in a single look."""
    for criterion in (c for c in policy.criteria.values() if c.source == "tests"):
        match criterion.kind, criterion.measure:
            case Kind.CEILING, Measure.ERROR_RATE:
                limit = number(criterion, "limit")
                needs = clean_needed(0, 0, limit, criterion.confidence)
                claim = f"error rate at most {percent(limit)}"
                yield Size(claim=claim, size=_ERROR_SIZE, needs=needs, note="without one error")
            case Kind.CEILING, Measure.TTFT:
                share = number(criterion, "quantile")
                needs = clean_needed(0, 0, 1 - share, criterion.confidence)
                claim = f"TTFT P{100 * share:g} at most {ms(number(criterion, 'limit'))}"
                yield Size(claim=claim, size=_TTFT_SIZE, needs=needs, note="without one over it")
            case Kind.IMPROVEMENT, Measure.TTFT:
                needs = pairs_needed(criterion, _TARGET_RATIO)
                less = percent(1 - number(criterion, "margin"))
                claim = f"TTFT better than control by {less}"
                note = f"pairs, at a true ratio of {_TARGET_RATIO:.4g}"
                yield Size(claim=claim, size=_TTFT_SIZE, needs=needs, note=note)


def pairs_needed(criterion: Criterion, ratio: float) -> int | None:
    """About how many pairs show in half of all attempts that a quantile's ratio is under a margin.

    The asymptotic spread of a quantile of a log-normal time, of both arms; None when the true
    ratio is not under the margin.
    """
    margin, share = number(criterion, "margin"), number(criterion, "quantile")
    if ratio >= margin:
        return None
    normal = NormalDist()
    density = normal.pdf(normal.inv_cdf(share)) / _SPREAD
    one = sqrt(share * (1 - share)) / density
    width = normal.inv_cdf(criterion.confidence) * sqrt(2) * one
    return max(criterion.min_samples, ceil((width / log(margin / ratio)) ** 2))


def _row(criterion: Criterion, rate: float, soak_hours: float, error_rate: float) -> Row:
    if criterion.measure in TIMES:
        limit = 1 - number(criterion, "quantile")
        supposed = _SLOW * limit
    else:
        limit, supposed = number(criterion, "limit"), error_rate
    typical = expected_needed(limit, supposed)
    return Row(
        id=criterion.id,
        limit=limit,
        supposed=supposed,
        reach=reach(limit, requests_per_second=rate, soak_hours=soak_hours, rate=supposed),
        hours=None if typical is None else typical / rate / 3600,
    )


def in_words(row: Row) -> str:
    """A row's answer in a few words."""
    if row.reach.typical is None:
        return "never: the supposed rate is not under the limit"
    if not row.reach.possible:
        missing = grouped_digits(row.reach.least - row.reach.requests)
        return f"no: the soak brings {missing} requests too few, even without a bad one"
    if row.reachable:
        return f"yes, in {100 * row.reach.chance:.3g} % of soaks"
    return f"hardly: in {100 * row.reach.chance:.3g} % of soaks"
