"""The ledgers of a report folder as evidence for the criteria of a door."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from gates.criteria import Criterion, Outcome
from gates.findings import Finding
from gates.ledger_file import Ledger
from gates.live_fold import LiveFold
from gates.live_judge import folded, together, unreadable
from gates.stages import Policy, Transition
from gates.verdict import Subject


@dataclass(frozen=True)
class LiveEvidence:
    """What was written of the flags that a gate judges; nothing is folded before it is asked."""

    policy: Policy
    ledgers: tuple[Ledger, ...]
    transitions: Mapping[str, Transition]
    subject: Subject
    now: datetime

    def findings(self, criterion: Criterion) -> Iterator[Finding]:
        """All that is known about a live criterion. Never empty."""
        for flag, step in self.transitions.items():
            yield from self._lacking(criterion, flag, step)
        for ledger in self._used.values():
            yield from unreadable(ledger)
        yield from together(criterion, self._folds, self.now)

    @cached_property
    def _used(self) -> dict[str, Ledger]:
        """The ledger of each judged flag, at its present epoch."""
        return {
            ledger.header.flag: ledger
            for ledger in self.ledgers
            if ledger.header.flag in self.transitions
            and ledger.header.epoch == self.subject.epochs.get(ledger.header.flag)
        }

    @cached_property
    def _folds(self) -> dict[str, LiveFold]:
        live = [c for c in self.policy.criteria.values() if c.source == "live"]
        return {
            flag: folded(ledger, live, self.policy.stages[ledger.header.stage])
            for flag, ledger in self._used.items()
        }

    def _lacking(self, criterion: Criterion, flag: str, step: Transition) -> Iterator[Finding]:
        """Why a flag has no live evidence, or has that of something else."""
        flags, epoch = frozenset({flag}), self.subject.epochs.get(flag)
        if flag not in self._used:
            known = sorted(x.header.epoch for x in self.ledgers if x.header.flag == flag)
            others = f"; there are ledgers of epochs {known}" if known else ""
            reason = f"{criterion.id}: no ledger of {flag} at epoch {epoch}{others}"
            yield Finding(outcome=Outcome.NO_DATA, reason=reason, flags=flags, absent=True)
            return
        header = self._used[flag].header
        for name, given, wanted in (
            ("stage", header.stage, step.origin),
            ("build", header.commit, self.subject.commit),
            ("configuration", header.config_sha256, self.subject.config_sha256),
        ):
            if given != wanted:
                reason = f"{criterion.id}: the ledger of {flag} is of {name} {given}, not {wanted}"
                yield Finding(outcome=Outcome.INVALID, reason=reason, flags=flags)
