"""What speaks against a ledger as a whole, and what ends a rollout without any comparison."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from math import log
from typing import Final

import numpy as np

from gates.criteria import Criterion, Kind, Outcome
from gates.dispersion import Dispersion
from gates.eprocess import Array, Evidence, Flags, two_sample
from gates.findings import Finding
from gates.ledger import Header, Unit, minute_of
from gates.ledger_fold import LedgerFold
from gates.minutes import Minutes
from gates.text import grouped_digits, percent

#: A sample ratio this unlikely under the configured share is a fault of assignment or counting
#: (Fabijan et al., KDD 2019, take 0.0005); here it holds for all looks together.
MISMATCH: Final = 0.0005

#: Odds of being in treatment that a mismatch is weighed against, both ways.
_SKEWS: Final = (1.05, 1.1, 1.2, 1.5, 2.0, 4.0)

#: One key with more of an arm than this is the arm's result.
DOMINATING: Final = 0.20

#: Fewer requests than this have a busiest key by nature.
_LEAST_REQUESTS: Final = 100

#: Minutes after which a ledger is stale: two polls lost, and the 90 s that a minute stays open.
STALE_MINUTES: Final = 5

#: The backstop: so many times a ceiling, in both arms, in so many valid minutes on end.
BACKSTOP_TIMES: Final = 10
BACKSTOP_MINUTES: Final = 5

#: Ten times a large ceiling would be more than all requests.
_NEARLY_ALL: Final = 0.9


@dataclass(slots=True)
class Backstop:
    """A ceiling exceeded tenfold in both arms: whoever did it, nothing is left to compare."""

    level: float
    by_block: bool  #: then one engine has one arm at a time, and those with traffic count
    run: int = 0
    fired: int | None = None  #: the minute

    def fold(self, minutes: Minutes, arms: tuple[Array, Array, Array, Array]) -> None:
        """Add minutes; `arms` is n and bad of the treatment, then of control."""
        n, bad, control_n, control_bad = arms
        over, over_control = bad >= self.level * n, control_bad >= self.level * control_n
        seen = (n + control_n > 0) if self.by_block else (n > 0) & (control_n > 0)
        broken = seen & over & over_control
        runs = _runs(broken, self.run)
        if self.fired is None and (runs >= BACKSTOP_MINUTES).any():
            self.fired = int(minutes.minute[np.argmax(runs >= BACKSTOP_MINUTES)])
        self.run = int(runs[-1])


def backstop_level(limit: float) -> float:
    """The share of bad requests at which the backstop counts a minute."""
    return min(BACKSTOP_TIMES * limit, _NEARLY_ALL)


@dataclass(slots=True)
class SampleRatio:
    """Whether the treatment gets the share of the traffic that is configured for it."""

    share: float
    evidence: Evidence = field(default_factory=lambda: Evidence.over(2 * len(_SKEWS)))
    scatter: Dispersion = field(default_factory=lambda: Dispersion(1.0, binomial=False))
    treated: float = 0.0
    together: float = 0.0
    mismatch: str = ""  #: what was found; it stays

    def fold(self, minutes: Minutes) -> None:
        """Add minutes."""
        n, control_n = minutes.treatment.assigned, minutes.control.assigned
        if self.share >= 1 or self.mismatch:
            return
        together = n + control_n
        share = np.full(len(minutes), self.share)
        score, variance = n - together * share, together * share * (1 - share)
        effect = self.scatter.fold(n, score, variance)
        odds = np.array([*_SKEWS, *(1 / skew for skew in _SKEWS)])
        self.evidence.fold(two_sample(n, control_n, share, odds), effect)
        self.treated += float(n.sum())
        self.together += float(together.sum())
        if self.evidence.log >= -log(MISMATCH):
            seen = self.treated / self.together
            self.mismatch = (
                f"sample ratio {percent(seen)} differs from the configured {percent(self.share)} "
                f"(p < {MISMATCH}, n={grouped_digits(int(self.together))})"
            )


def doubts(
    fold: LedgerFold, ratio: SampleRatio, last_valid: int | None, now: datetime
) -> Iterator[Finding]:
    """Whatever forbids a pass, whichever the criterion."""
    flags = frozenset({fold.header.flag})
    for text in filter(None, (fold.disorder, ratio.mismatch)):
        yield Finding(outcome=Outcome.INVALID, reason=f"ledger: {text}", flags=flags)
    if last_valid is None:
        yield Finding(outcome=Outcome.NO_DATA, reason="ledger: no valid minute", flags=flags)
        return
    age = minute_of(now) - last_valid - 1
    if age < -1:
        reason = f"ledger: its last minute is {-age - 1} minutes ahead of the clock"
        yield Finding(outcome=Outcome.INVALID, reason=reason, flags=flags)
    if age > STALE_MINUTES:
        reason = f"ledger: the last valid minute ended {age} minutes ago; allowed: {STALE_MINUTES}"
        yield Finding(outcome=Outcome.NO_DATA, reason=reason, flags=flags)
    for arm, most, every in fold.shares_of_busiest():
        if every >= _LEAST_REQUESTS and most > DOMINATING * every:
            reason = (
                f"ledger: one key sent {percent(most / every)} > {percent(DOMINATING)} "
                f"of the {arm}'s requests (n={grouped_digits(every)})"
            )
            yield Finding(outcome=Outcome.INCONCLUSIVE, reason=reason, flags=flags)


def soak(criterion: Criterion, fold: LedgerFold, hours: float) -> Finding:
    """Whether the stage lasted long enough, in minutes that show something."""
    demanded, valid = round(60 * hours), fold.valid
    missing = max(demanded - valid, 0)
    lost = fold.gaps + sum(fold.invalid.values())
    without = f", {grouped_digits(lost)} without valid evidence" if lost else ""
    without += f", {grouped_digits(fold.paused)} on hold" if fold.paused else ""
    worst = max(fold.invalid, key=lambda reason: fold.invalid[reason], default="")
    return Finding(
        outcome=Outcome.INCONCLUSIVE if missing else Outcome.PASS,
        reason=(
            f"{criterion.id} {grouped_digits(valid)} {'<' if missing else '>='} "
            f"{grouped_digits(demanded)} valid minutes at {fold.header.stage}{without}"
            f"{f' ({worst})' if worst else ''}"
            f"{f'; needs {grouped_digits(missing)} more' if missing else ''}"
        ),
        flags=frozenset({fold.header.flag}),
        estimate=float(valid),
        limit=float(demanded),
        n=valid,
        needs=missing or None,
    )


def crashes(criterion: Criterion, fold: LedgerFold) -> Finding:
    """A crash class event speaks for itself, and against every flag: engines serve all arms."""
    n = fold.last - fold.first + 1 - fold.gaps if fold.last and fold.first else 0
    if fold.crash:
        reason = f"{criterion.id}: {fold.crash}"
        return Finding(
            outcome=Outcome.FAIL, reason=reason, estimate=1.0, limit=0.0, n=n, attributed=True
        )
    return Finding(
        outcome=Outcome.PASS if n else Outcome.NO_DATA,
        reason=f"{criterion.id} 0 = 0 crash class events (n={grouped_digits(n)} minutes)",
        flags=frozenset({fold.header.flag}),
        estimate=0.0,
        limit=0.0,
        n=n,
    )


def has_backstop(criterion: Criterion) -> bool:
    """Only a ceiling that matters ends a rollout by itself."""
    return criterion.critical and criterion.kind is Kind.CEILING


def sample_ratio(header: Header) -> SampleRatio:
    """The check of a ledger; blocks of few engines say nothing about a share."""
    return SampleRatio(1.0 if header.unit is Unit.BLOCK else header.share)


def _runs(broken: Flags, before: int) -> Array:
    """How many in a row, up to and with each, continuing a run from before."""
    places = np.arange(len(broken))
    last = np.maximum.accumulate(np.where(broken, -1, places))
    return np.where(last < 0, places + 1 + before, places - last)
