"""What must be there beside what was measured: every experiment, every test of the last time."""

from collections.abc import Iterator, Sequence
from typing import Final

from gates.criteria import Criterion, Measure, Outcome
from gates.evidence import REPORT_ITEM, Measurement
from gates.findings import Finding
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
