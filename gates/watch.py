"""One live criterion, watched minute by minute: is it broken, by whom, is it met?

Broken and the treatment's doing: the evidence that the limit is exceeded and the evidence that
the treatment is worse than concurrent control stand at once, at one minute. That stays so. A
limit exceeded in both arms is the surroundings' doing, and passes when they recover.
"""

from dataclasses import dataclass, field
from math import log

import numpy as np

from gates.counting import Counting, Seen, blaming, counting
from gates.criteria import Criterion, Kind
from gates.dispersion import Dispersion
from gates.eprocess import (
    ODDS_OF_ERRORS,
    ODDS_OF_TIMES,
    Array,
    Evidence,
    Flags,
    Numbers,
    Restarted,
    one_sample,
    rates_above,
    rates_below,
    shares,
    tolerant,
    two_sample,
)
from gates.findings import number
from gates.ledger import Header, Unit
from gates.minutes import Minutes, Pair
from gates.symmetric import RestartedPairs, Sums, log_evidence_above


@dataclass(frozen=True, slots=True)
class Budget:
    """How a stage may err: rolling back a sound flag, for one criterion of one flag."""

    hours: int  #: that the stage lasts; at `full`, after which the budget is renewed
    alpha: float

    @property
    def threshold(self) -> float:
        """What the logarithm of evidence must reach."""
        return -log(self.alpha)


@dataclass(slots=True)
class _Limit:
    """Whether one arm's rate is over, or under, a limit."""

    limit: float
    over: Restarted
    under: Evidence
    scatter: tuple[Dispersion, Dispersion] | None
    rates_over: Array
    rates_under: Array
    effect: float = 1.0  #: the design effect now

    @classmethod
    def of(cls, limit: float, budget: Budget, start: float | None) -> "_Limit":
        """Nothing counted yet; without a design effect to start from, counts are coins."""
        over, under = rates_above(limit, of_times=start is not None), rates_below(limit)
        return cls(
            limit,
            Restarted(budget.hours, len(over), budget.threshold),
            Evidence.over(len(under)),
            _scatter(start, binomial=True),
            over,
            under,
        )

    def exceeded(self, hours: Numbers, n: Array, bad: Array) -> Flags:
        """Add minutes; at which of them the rate is confidently over the limit."""
        effect = _effect(self.scatter and self.scatter[0], n, bad, n)
        return self.over.fold(hours, one_sample(bad, n, self.limit, self.rates_over), effect)

    def kept(self, n: Array, bad: Array) -> None:
        """Add minutes to the evidence that the rate is under the limit."""
        effect = _effect(self.scatter and self.scatter[1], n, bad, n)
        self.effect = float(effect[-1])
        self.under.fold(one_sample(bad, n, self.limit, self.rates_under), effect)


@dataclass(slots=True)
class _SideBySide:
    """Whether the treatment is worse, or better, than control, both running at once."""

    ratios: tuple[float, float]  #: of bad requests, that are tolerated
    odds: Array
    worse: Restarted
    better: Evidence
    scatter: tuple[Dispersion, Dispersion] | None

    @classmethod
    def of(cls, ratios: tuple[float, float], budget: Budget, start: float | None) -> "_SideBySide":
        """Nothing counted yet."""
        odds = np.array(ODDS_OF_ERRORS if start is None else ODDS_OF_TIMES)
        return cls(
            ratios,
            odds,
            Restarted(budget.hours, len(odds), budget.threshold),
            Evidence.over(len(odds)),
            _scatter(start, binomial=False),
        )

    def is_worse(self, hours: Numbers, seen: Seen) -> Flags:
        """Add minutes; at which of them the treatment is confidently worse."""
        share = tolerant(shares(seen.n, seen.control_n), self.ratios[0])
        effect = _paired_effect(self.scatter and self.scatter[0], seen, share)
        return self.worse.fold(
            hours, two_sample(seen.bad, seen.control_bad, share, self.odds), effect
        )

    def is_better(self, seen: Seen) -> None:
        """Add minutes to the evidence that the treatment is better."""
        share = tolerant(shares(seen.n, seen.control_n), self.ratios[1])
        effect = _paired_effect(self.scatter and self.scatter[1], seen, share)
        self.better.fold(two_sample(seen.bad, seen.control_bad, share, 1 / self.odds), effect)


@dataclass(slots=True)
class _BlockByBlock:
    """The same where whole blocks are assigned: one observation a pair."""

    counting: Counting
    worse: RestartedPairs
    better: Sums = field(default_factory=Sums)
    stands: bool = False  #: after the last pair

    def fold(self, hours: Numbers, pairs: tuple[Pair, ...]) -> Flags:
        """Add pairs; at which minutes the treatment is confidently worse."""
        crossed = np.zeros(len(hours), dtype=np.bool_)
        begin = 0
        for pair in pairs:
            crossed[begin : pair.place] = self.stands
            begin = pair.place
            ratios = self.counting.compare(pair.treatment, pair.control)
            if ratios is not None:
                self.stands = self.worse.fold(int(hours[pair.place]), ratios[0])
                self.better = self.better.plus(-ratios[1])
        crossed[begin:] = self.stands
        return crossed


@dataclass(slots=True)
class Watch:
    """Owns all that is known about one live criterion of one flag."""

    criterion: Criterion
    counting: Counting
    blame: Counting  #: what tells whether the treatment is worse than control
    budget: Budget
    treatment: _Limit | None
    control: _Limit | None
    beside: _SideBySide
    blocks: _BlockByBlock | None
    sums: Array = field(default_factory=lambda: np.zeros(4))  #: n, bad, and control's, of a pass
    broken: tuple[int, int, int] | None = None  #: when: minute, requests and bad ones until then
    over: bool = False  #: the limit is confidently exceeded now
    over_in_control: bool = False

    @classmethod
    def of(cls, criterion: Criterion, header: Header, budget: Budget) -> "Watch":
        """Nothing counted yet.

        Raises:
            ValueError: there is no live judge for the criterion.
        """
        counts = counting(criterion, header)
        blame = blaming(criterion, header, counts)
        start = criterion.design_effect if counts.tempered else None
        ceiling = criterion.kind is Kind.CEILING
        limit = limit_of(criterion) if ceiling else 0.0
        by_block = header.unit is Unit.BLOCK
        ratios = (1.0, 1.0) if ceiling or start else getattr(counts, "ratios", (1.0, 1.0))
        return cls(
            criterion,
            counts,
            blame,
            budget,
            _Limit.of(limit, budget, start) if ceiling else None,
            _Limit.of(limit, budget, start) if ceiling else None,
            _SideBySide.of(ratios, budget, start),
            _BlockByBlock(blame, RestartedPairs(budget.hours, budget.threshold))
            if by_block
            else None,
        )

    def fold(self, minutes: Minutes) -> Seen:
        """Add minutes, at least one, in order; what was counted in them for a pass."""
        hours = minutes.hours
        harm, good = self.counting.count(minutes)
        beside = harm if self.blame is self.counting else self.blame.count(minutes)[0]
        worse = self._worse(hours, beside, minutes.pairs)
        if self.treatment and self.control:
            exceeded = self.treatment.exceeded(hours, harm.n, harm.bad)
            in_control = self.control.exceeded(hours, harm.control_n, harm.control_bad)
            self.treatment.kept(good.n, good.bad)
            self.over, self.over_in_control = bool(exceeded[-1]), bool(in_control[-1])
            alone = self.sums[2] + np.cumsum(harm.control_n) == 0
            blamed = worse | alone if self.criterion.attribution else np.ones_like(worse)
            worse = exceeded & blamed
        elif not self.blocks:
            self.beside.is_better(good)
        if self.broken is None and worse.any():
            self._break(int(np.argmax(worse)), minutes, good)
        self.sums = self.sums + [column.sum() for column in _columns(good)]
        return good

    def _worse(self, hours: Numbers, harm: Seen, pairs: tuple[Pair, ...]) -> Flags:
        if self.blocks:
            return self.blocks.fold(hours, pairs)
        return self.beside.is_worse(hours, harm)

    def _break(self, place: int, minutes: Minutes, good: Seen) -> None:
        n, bad = (
            int(before + column[: place + 1].sum())
            for before, column in zip(self.sums, (good.n, good.bad), strict=False)
        )
        self.broken = (int(minutes.minute[place]), n, bad)

    @property
    def log_evidence_met(self) -> float:
        """The logarithm of the evidence that the criterion is met."""
        if self.treatment:
            return self.treatment.under.log
        if self.blocks:
            return log_evidence_above(self.blocks.better)
        return self.beside.better.log

    @property
    def slope(self) -> float:
        """Evidence for a pass that each request brought, by the alternative that fits best."""
        if self.treatment or not self.sums[0]:
            return 0.0
        best = log_evidence_above(self.blocks.better) if self.blocks else self.beside.better.best
        return best / float(self.sums[0])

    @property
    def met(self) -> bool:
        """Whether the criterion is confidently met now, by enough requests."""
        enough = self.sums[0] >= self.criterion.min_samples
        return bool(enough and self.log_evidence_met >= self.threshold_met)

    @property
    def threshold_met(self) -> float:
        """What the logarithm of the evidence must reach for a pass."""
        return -log(1 - self.criterion.confidence)

    @property
    def effect(self) -> float:
        """The design effect of a ceiling's count now."""
        return self.treatment.effect if self.treatment else 1.0


def _scatter(start: float | None, *, binomial: bool) -> tuple[Dispersion, Dispersion] | None:
    """Design effects for a rollback and for a pass; None where counts are as good as coins."""
    if start is None:
        return None
    return Dispersion(start, binomial=binomial), Dispersion(start, binomial=binomial)


def limit_of(criterion: Criterion) -> float:
    """The share of bad requests that a ceiling allows: of errors, or beyond a quantile's limit."""
    if criterion.quantile is None:
        return number(criterion, "limit")
    return 1 - criterion.quantile


def _columns(seen: Seen) -> tuple[Array, Array, Array, Array]:
    return seen.n, seen.bad, seen.control_n, seen.control_bad


def _effect(scatter: Dispersion | None, n: Array, u: Array, v: Array) -> Array:
    return np.ones(len(n)) if scatter is None else scatter.fold(n, u, v)


def _paired_effect(scatter: Dispersion | None, seen: Seen, share: Array) -> Array:
    together = seen.bad + seen.control_bad
    score, variance = seen.bad - together * share, together * share * (1 - share)
    return _effect(scatter, seen.n, score, variance)
