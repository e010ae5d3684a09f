"""What must be there besides what was: every flag, every experiment, every test of last time."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Final

from engine.core.flags import FLAGS, FlagSet, flag_set_name
from gates.criteria import Covers, Criterion, Measure, Outcome
from gates.evidence import REPORT_ITEM, Measurement
from gates.findings import Finding
from gates.groups import TREATMENT, treatment_flags
from gates.recovery import carried_out
from gates.stages import Policy

#: Tests that a reason names; the count says how many there are.
_NAMED: Final = 3


def missing(
    policy: Policy, criterion: Criterion, sound: Sequence[Measurement], earlier: frozenset[str]
) -> Iterator[Finding]:
    """A finding for each thing that a criterion wants beside what was measured.

    Args:
        policy: for the tests that were retired.
        criterion: the demand.
        sound: the measurements that can be believed.
        earlier: the tests of other suites that passed at the last verdict.
    """
    if criterion.measure is Measure.RECOVERY:
        journals = tuple(journal for m in sound for journal in m.journals)
        for words in carried_out(journals, criterion):
            yield _no_data(criterion, words, absent=not journals)
    elif criterion.measure is Measure.SUITE:
        for report in sound:
            if not report.checks:
                yield _no_data(criterion, f"{report.item}: empty, or every test skipped")
        gone = sorted(earlier - passed(sound) - set(policy.retired_tests))
        if gone:
            more = f" and {len(gone) - _NAMED} more" if len(gone) > _NAMED else ""
            words = f"passed at the last verdict and did not now: {', '.join(gone[:_NAMED])}{more}"
            yield _no_data(criterion, f"{words}; allowed: to list them under retired_tests")


def passed(measurements: Sequence[Measurement]) -> frozenset[str]:
    """The tests that passed in the reports of other suites."""
    reports = [m for m in measurements if m.item.startswith(REPORT_ITEM)]
    ran = {check.name: check.ok for m in reports for check in m.checks}
    failed = {check.name for m in reports for check in m.checks if not check.ok}
    return frozenset(ran) - failed


def _no_data(criterion: Criterion, words: str, *, absent: bool = False) -> Finding:
    reason = f"{criterion.id}: {words}"
    return Finding(outcome=Outcome.NO_DATA, reason=reason, absent=absent)


def uncovered(
    criterion: Criterion, measured: Iterable[Measurement], judged: FlagSet
) -> Iterator[Finding]:
    """A flag that nobody switched on was not shown to be sound."""
    # Checks about no engine speak for no flag set, least of all for `off`.
    seen = {treatment_flags(m) for m in measured if TREATMENT in m.arms}
    for flags in _uncovered(criterion.covers, seen, judged):
        reason = f"{criterion.id}: nothing was measured with flags={flag_set_name(flags)}"
        yield Finding(outcome=Outcome.NO_DATA, reason=reason, flags=flags, absent=True)


def _uncovered(covers: Covers, seen: set[FlagSet], judged: FlagSet) -> Iterator[FlagSet]:
    names = [flag for flag in FLAGS if flag in judged]
    if covers is Covers.EVERY_SET:
        sizes = range(len(names) + 1)
        every = (frozenset(members) for size in sizes for members in combinations(names, size))
        yield from (flags for flags in every if flags not in seen)
    elif covers is Covers.EACH_FLAG:
        on = frozenset[str]().union(*seen)
        yield from (frozenset({name}) for name in names if name not in on)
