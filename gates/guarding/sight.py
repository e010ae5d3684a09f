"""What the guard sees of a flag: whether its evidence is sound, and what it convicts. Pure.

Sound is what a lease is renewed on: a valid minute of this flag's present epoch that ended at most
`STALE_MINUTES` ago and counted the engine in question. No traffic is sound (the counters were
read, and stood still); no counters is not. A flag that has just entered a stage has no minute yet
and is given as long as a stale one.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from gates.criteria import Criterion, Measure, Outcome
from gates.findings import Finding
from gates.ledger import CLOSED_AFTER, Header, Row, minute_of
from gates.live_health import STALE_MINUTES
from gates.standing import Cause

#: From entering a stage until its first minute must be there: a broken minute, a whole one, the
#: time that a minute stays open, and then as long as a ledger may be silent.
GRACE: Final = timedelta(minutes=2 + STALE_MINUTES, seconds=CLOSED_AFTER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What is known of one flag at its present epoch."""

    flag: str
    epoch: int
    entered_at: datetime | None = None
    last_valid: int | None = None  #: the last minute that shows something
    engines: tuple[str, ...] = ()  #: that were counted in it
    reason: str = ""  #: why the minutes after it, if any, show nothing
    problems: tuple[str, ...] = ()  #: of the ledger's file

    def blind(self, engine: str, now: datetime) -> str:
        """Why a lease of an engine is not renewed for this flag; empty when it may be."""
        if self.problems:
            return f"{self.flag}: {self.problems[0]}"
        if self.entered_at is not None and timedelta(0) <= now - self.entered_at <= GRACE:
            return ""
        why = self._stale(now) or self._missing(engine)
        return f"{self.flag}: {why}" if why else ""

    def _stale(self, now: datetime) -> str:
        why = f" ({self.reason})" if self.reason else ""
        if self.last_valid is None:
            return f"no valid minute since it entered its stage{why}"
        age = minute_of(now) - self.last_valid - 1
        if age > STALE_MINUTES:
            return f"the last valid minute ended {age} minutes ago; allowed: {STALE_MINUTES}{why}"
        return f"the last minute is {-age - 1} minutes ahead of the clock" if age < -1 else ""

    def _missing(self, engine: str) -> str:
        if engine in self.engines:
            return ""
        return f"engine {engine} is not in the evidence, only {', '.join(self.engines) or 'none'}"

    def taking(self, row: Row, header: Header) -> "Sight":
        """What is known after one more row of the ledger with a header."""
        reason = row.invalid or _stranger(row, header)
        if reason:
            return replace(self, reason=reason)
        return replace(self, last_valid=row.minute, engines=row.engines, reason="")


def _stranger(row: Row, header: Header) -> str:
    """Why a minute is not of what was promoted."""
    if row.commit != header.commit:
        return f"build {row.commit or 'unknown'}, not {header.commit}"
    if row.config_sha256 != header.config_sha256:
        return f"configuration {row.config_sha256 or 'unknown'}, not {header.config_sha256}"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A flag that goes to 0 %, and why."""

    flag: str
    cause: Cause
    criterion: str
    reason: str


#: The stronger cause counts where a flag is convicted twice: what it forbids lasts longer.
_STRONGEST: Final = (Cause.CRASH, Cause.VERDICT, Cause.UNATTRIBUTED)


def sentences(
    found_of: Mapping[Criterion, Iterable[Finding]], flags: Collection[str]
) -> tuple[Sentence, ...]:
    """The flags that are rolled back on their live evidence alone.

    Args:
        found_of: the findings about every critical live criterion of the policy.
        flags: all at a live stage, whose ledgers they were found in.
    """
    found: dict[str, Sentence] = {}
    for criterion, findings in found_of.items():
        for finding in findings:
            for sentence in _sentenced(criterion, finding, flags):
                other = found.get(sentence.flag)
                if other is None or _rank(sentence) < _rank(other):
                    found[sentence.flag] = sentence
    return tuple(found[flag] for flag in flags if flag in found)


def breaches(
    found_of: Mapping[Criterion, Iterable[Finding]],
) -> Iterator[tuple[str, Finding]]:
    """Criteria that are broken without being the treatment's doing: somebody has to look."""
    for criterion, findings in found_of.items():
        for finding in findings:
            if finding.outcome in _TO_BE_LOOKED_AT and not finding.attributed:
                yield criterion.id, finding


_TO_BE_LOOKED_AT: Final = frozenset({Outcome.FAIL, Outcome.INVALID})


def _sentenced(criterion: Criterion, finding: Finding, flags: Iterable[str]) -> Iterator[Sentence]:
    if not finding.attributed:
        return
    for flag in finding.flags or frozenset(flags):
        yield Sentence(
            flag=flag,
            cause=_cause(criterion, finding),
            criterion=criterion.id,
            reason=finding.reason,
        )


def _cause(criterion: Criterion, finding: Finding) -> Cause:
    if criterion.measure is Measure.CRASHES:
        return Cause.CRASH
    if finding.shared or not finding.flags:
        return Cause.UNATTRIBUTED
    return Cause.VERDICT


def _rank(sentence: Sentence) -> int:
    return _STRONGEST.index(sentence.cause)
