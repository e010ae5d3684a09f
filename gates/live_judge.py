"""Live criteria of several flags judged together: ledgers in, findings out. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from engine.core.flags import FLAGS, FlagSet
from gates.attribution import Blame, blame
from gates.criteria import Criterion, Measure, Outcome
from gates.findings import Finding
from gates.groups import Counts, flags_of
from gates.ledger_file import Ledger
from gates.live_fold import LiveFold
from gates.rows import Judged, decide
from gates.stages import Stage
from gates.verdict import Decision, worst_decision


def findings(
    criterion: Criterion,
    ledger: Ledger,
    stage: Stage,
    now: datetime,
    others: Iterable[Criterion] = (),
) -> tuple[Finding, ...]:
    """What one ledger says about one live criterion.

    Args:
        criterion: with source `live`.
        ledger: of one flag at one stage.
        stage: of the policy, the one at which the ledger was written.
        now: only tells whether the ledger is up to date.
        others: the other live criteria of the policy, which share the chance of wrong rollbacks.
    """
    criteria = {c.id: c for c in (*others, criterion)}
    fold = folded(ledger, criteria.values(), stage)
    return (*unreadable(ledger), *fold.findings(criterion, now))


def folded(ledger: Ledger, criteria: Iterable[Criterion], stage: Stage) -> LiveFold:
    """A ledger's state; the same however the rows came."""
    fold = LiveFold.of(ledger.header, criteria, stage)
    fold.extend(ledger.rows)
    return fold


def unreadable(ledger: Ledger) -> tuple[Finding, ...]:
    """What of a file could not be read."""
    flags = frozenset({ledger.header.flag})
    return tuple(
        Finding(outcome=Outcome.INVALID, reason=f"ledger: {problem}", flags=flags)
        for problem in ledger.problems
    )


def together(
    criterion: Criterion, folds: Mapping[str, LiveFold], now: datetime
) -> tuple[Finding, ...]:
    """The findings of all flags about a criterion; of several suspects only the guilty are blamed.

    Args:
        criterion: with source `live`.
        folds: by flag.
        now: only tells whether the ledgers are up to date.
    """
    every = [
        _explained(f, fold, criterion.measure)
        for fold in folds.values()
        for f in fold.findings(criterion, now)
    ]
    suspects = sorted({flag for f in every if f.attributed for flag in f.flags})
    if len(suspects) < 2:  # noqa: PLR2004 - alone, there is no choice
        return tuple(every)
    if criterion.measure not in _CELLS:
        return tuple(replace(f, shared=f.attributed and bool(f.flags)) for f in every)
    verdict = blame(suspects, _cells([folds[flag] for flag in suspects], criterion.measure))
    return tuple(_judged(finding, verdict) for finding in every)


def each_together(
    criteria: Iterable[Criterion], folds: Mapping[str, LiveFold], now: datetime
) -> dict[Criterion, tuple[Finding, ...]]:
    """The findings of all flags about each criterion, for all who read them; see `together`."""
    return {criterion: together(criterion, folds, now) for criterion in criteria}


def decisions(
    demanded: Iterable[Criterion],
    armed: Iterable[Criterion],
    folds: Mapping[str, LiveFold],
    now: datetime,
) -> dict[str, Decision]:
    """What to do with each flag, by its live evidence alone.

    Args:
        demanded: the criteria of the door that the flags stand before, all with source `live`.
        armed: those that may roll back, wherever the flags stand: every critical one.
        folds: by flag.
        now: only tells whether the ledgers are up to date.
    """
    judged = [Judged(c, together(c, folds, now)) for c in demanded]
    listed = {each.criterion.id for each in judged}
    other = [Judged(c, together(c, folds, now)) for c in armed if c.critical and c.id not in listed]
    return {
        flag: worst_decision([decide(flag, judged), *_rollbacks(flag, other)]) for flag in folds
    }


def _rollbacks(flag: str, judged: Iterable[Judged]) -> Iterator[Decision]:
    for each in judged:
        if any(finding.attributed for finding in each.about(flag)):
            yield Decision.ROLLBACK


def _explained(finding: Finding, fold: LiveFold, measure: Measure) -> Finding:
    """One flag's fault is in both arms of every other: that is no outage, and has its culprit.

    The culprit is looked for in this ledger alone, for its own may be closed already.
    """
    if finding.flags or not finding.attributed or measure not in _CELLS:
        return finding
    verdict = blame(FLAGS, _counts(fold, measure))
    if not verdict.guilty:
        return finding
    reason = f"{finding.reason.partition(': every flag')[0]}; attribution: {verdict.reason}"
    return replace(finding, reason=reason, attributed=False)


def _judged(finding: Finding, verdict: Blame) -> Finding:
    """A suspect that is not guilty keeps its failure, which holds, and is not rolled back."""
    if not finding.attributed or not finding.flags:
        return finding
    return replace(
        finding,
        reason=f"{finding.reason}; attribution: {verdict.reason}",
        attributed=not verdict.guilty or bool(finding.flags & verdict.guilty),
        shared=not verdict.guilty,
    )


#: Where the two numbers of a measure stand in a cell of the ledger: n and bad.
_CELLS: Final = {Measure.ERROR_RATE: (0, 1), Measure.TTFT: (2, 3)}


def _cells(folds: list[LiveFold], measure: Measure) -> dict[FlagSet, Counts]:
    """Those of the youngest ledger: in its minutes every suspect stood where it stands now."""
    youngest = max(folds, key=lambda fold: (fold.ledger.first or 0, fold.ledger.header.flag))
    return _counts(youngest, measure)


def _counts(fold: LiveFold, measure: Measure) -> dict[FlagSet, Counts]:
    n, bad = _CELLS[measure]
    return {flags_of(name): Counts(cell[bad], cell[n]) for name, cell in fold.ledger.cells.items()}
