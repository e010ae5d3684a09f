"""All that one ledger says, kept up to date as it grows."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from engine.core.flags import FLAGS
from gates.counting import Seen
from gates.criteria import Criterion, Measure
from gates.findings import Finding
from gates.ledger import Header, Row
from gates.ledger_fold import LedgerFold
from gates.live_findings import of_backstop, of_watch
from gates.live_health import (
    Backstop,
    SampleRatio,
    backstop_level,
    crashes,
    doubts,
    has_backstop,
    sample_ratio,
    soak,
)
from gates.minutes import Minutes
from gates.stages import Stage
from gates.watch import Budget, Watch, limit_of

#: A sound flag is rolled back at a stage with this probability at most: all flags, all criteria.
ALPHA_ROLLBACK: Final = 0.01

#: Hours for which that holds where a stage has no end: a month, then the budget is renewed.
ENDLESS_HOURS: Final = 720

#: The present rate is that of the last hour's valid minutes.
_RATE_MINUTES: Final = 60


@dataclass(slots=True)
class LiveFold:
    """Owns the state of every live criterion of one flag; rows go in, findings come out."""

    ledger: LedgerFold
    stage: Stage
    watches: dict[str, Watch]
    backstops: dict[str, Backstop]
    ratio: SampleRatio
    rates: deque[float]
    last_valid: int | None = None

    @classmethod
    def of(cls, header: Header, criteria: Iterable[Criterion], stage: Stage) -> "LiveFold":
        """Nothing folded yet.

        Args:
            header: of the ledger.
            criteria: every live criterion of the policy, also those that no door lists yet: they
                share what may be spent on wrong rollbacks.
            stage: where the flag stands.
        """
        watched = [c for c in criteria if c.measure not in _BY_ROWS]
        watches = {
            c.id: Watch.of(c, header, Budget(hours_of(stage), alpha_of(c, watched)))
            for c in watched
        }
        return cls(
            LedgerFold(header),
            stage,
            watches,
            {c.id: _backstop(c, watches[c.id]) for c in watched if has_backstop(c)},
            sample_ratio(header),
            deque(maxlen=_RATE_MINUTES),
        )

    def extend(self, rows: Iterable[Row]) -> None:
        """Take further rows in."""
        self.take(self.ledger.fold(rows))

    def take(self, minutes: Minutes) -> None:
        """Take further valid minutes in."""
        if not len(minutes):
            return
        for watch in self.watches.values():
            seen = watch.fold(minutes)
            self._backstop(watch.criterion, minutes, seen)
        self.ratio.fold(minutes)
        self.rates.extend(minutes.treatment.n[-_RATE_MINUTES:].tolist())
        self.last_valid = int(minutes.minute[-1])

    def findings(self, criterion: Criterion, now: datetime) -> tuple[Finding, ...]:
        """Everything that is known about a criterion. Never empty.

        Args:
            criterion: one of those that were given at the start.
            now: only tells whether the ledger is up to date; no count depends on it.
        """
        return (*doubts(self.ledger, self.ratio, self.last_valid, now), *self._of(criterion))

    @property
    def rate(self) -> float:
        """Requests of the treatment a minute, at present."""
        return sum(self.rates) / len(self.rates) if self.rates else 0.0

    def _of(self, criterion: Criterion) -> Iterable[Finding]:
        if criterion.measure is Measure.SOAK:
            yield soak(criterion, self.ledger, self.stage.soak_hours)
            return
        if criterion.measure is Measure.CRASHES:
            yield crashes(criterion, self.ledger)
            return
        fired = self.backstops[criterion.id].fired if criterion.id in self.backstops else None
        if fired is not None:
            yield of_backstop(criterion, fired)
        yield of_watch(self.watches[criterion.id], self.ledger.header, self.rate)

    def _backstop(self, criterion: Criterion, minutes: Minutes, seen: Seen) -> None:
        if criterion.id in self.backstops:
            arms = (seen.n, seen.bad, seen.control_n, seen.control_bad)
            self.backstops[criterion.id].fold(minutes, arms)


def hours_of(stage: Stage) -> int:
    """The hours over which a stage's chance of a wrong rollback is spread."""
    return max(round(stage.soak_hours), 1) if stage.soak_hours else ENDLESS_HOURS


#: Judged from the rows themselves, without any comparison.
_BY_ROWS: Final = frozenset({Measure.SOAK, Measure.CRASHES})


def alpha_of(criterion: Criterion, watched: Iterable[Criterion]) -> float:
    """What one criterion of one flag may spend on rolling a sound flag back.

    Flags share alike. Of a flag's part, half is for errors, which are what a rollback is for, and
    the other half for the other measures alike. Criteria of one measure spend together: they roll
    back on the same evidence that the treatment is worse.
    """
    others = {c.measure for c in watched if c.critical} - {Measure.ERROR_RATE}
    parts = 2 if criterion.measure is Measure.ERROR_RATE else 2 * max(len(others), 1)
    return ALPHA_ROLLBACK / (len(FLAGS) * parts)


def _backstop(criterion: Criterion, watch: Watch) -> Backstop:
    return Backstop(backstop_level(limit_of(criterion)), watch.blocks is not None)
