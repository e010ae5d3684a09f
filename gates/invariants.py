"""Invariants: what holds exactly, or is broken by a single exception."""

from dataclasses import dataclass

from gates.criteria import Criterion, Outcome
from gates.findings import Finding, asks, where
from gates.groups import CONTROL, TREATMENT, Counts, Group, lost_counts
from gates.text import grouped_digits

#: Broken checks that a reason names; the count says how many there are.
_NAMED = 3


@dataclass(frozen=True, slots=True)
class _Exceptions:
    """How many there were, of how many, in words."""

    counts: Counts
    words: str
    detail: str = ""
    attributed: bool = True


def checks(criterion: Criterion, group: Group) -> Finding:
    """Every check that the tests made holds, and there was one."""
    made = list(group.checks())
    broken = sum(not check.ok for check in made)
    found = _Exceptions(Counts(broken, len(made)), "checks broken", _broken_checks(group))
    return _finding(criterion, group, found)


def lost_streams(criterion: Criterion, group: Group) -> Finding:
    """Every stream that began has ended; a broken check counts as one that has not."""
    lost = lost_counts(group.samples(TREATMENT))
    broken = sum(not check.ok for check in group.checks())
    beside = lost_counts(group.samples(CONTROL)) if criterion.attribution else Counts(0, 0)
    detail = _broken_checks(group)
    if beside.bad:
        detail = f"control lost {beside.bad} of {grouped_digits(beside.n)} as well {detail}".strip()
    counts = Counts(lost.bad + broken, lost.n + broken)
    return _finding(
        criterion, group, _Exceptions(counts, "streams lost", detail, attributed=not beside.bad)
    )


def _finding(criterion: Criterion, group: Group, found: _Exceptions) -> Finding:
    bad, n = found.counts.bad, found.counts.n
    missing = max(criterion.min_samples - n, 0)
    outcome = Outcome.FAIL if bad else Outcome.INCONCLUSIVE if missing else Outcome.PASS
    needs = missing if outcome is Outcome.INCONCLUSIVE else None
    detail = f": {found.detail}" if found.detail else ""
    return Finding(
        outcome=outcome,
        reason=(
            f"{criterion.id} {bad} {'>' if bad else '='} 0 {found.words} "
            f"(n={grouped_digits(n)}, {where(group)}){detail}{asks(needs)}"
        ),
        flags=group.flags,
        estimate=float(bad),
        limit=0.0,
        n=n,
        needs=needs,
        attributed=outcome is Outcome.FAIL and found.attributed,
    )


def _broken_checks(group: Group) -> str:
    broken = [check for check in group.checks() if not check.ok]
    return ", ".join(f"{c.name} ({c.detail})" if c.detail else c.name for c in broken[:_NAMED])
