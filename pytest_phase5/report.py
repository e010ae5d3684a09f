"""The verdict for people and for other programs: terminal and `junit.xml`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite
from junitparser.junitparser import FinalResult

from gates.criteria import Outcome
from gates.shown import NONE, Shown, shown
from gates.verdict import CriterionRow, Decision, Verdict
from pytest_phase5.reporting.headline import headline

JUNIT_FILE: Final = "junit.xml"

_HEAD: Final = ("criterion", "outcome", "measured", "limit", "n", "interval", "reason")
_COLOURS: Final = {Decision.PROMOTE: "green", Decision.HOLD: "yellow", Decision.ROLLBACK: "red"}

#: Outcomes of items that JUnit knows as a failure of the test itself.
_FAILED: Final = frozenset({"failed", "xpassed"})


def write_terminal(
    terminal: pytest.TerminalReporter, verdict: Verdict, unmarked: int, folder: Path
) -> None:
    """One aligned row for each criterion, then one for each flag, worst last."""
    head = headline(verdict, str(folder))
    terminal.write_sep("=", f"phase5 gate: {head.word}: {head.subject}")
    for line in aligned([_HEAD, *(_cells(told) for told in reversed(head.rows))]):
        terminal.write_line(line)
    if unmarked:
        terminal.write_line(f"{unmarked} tests that this gate does not ask for were deselected")
    for flag, decision in sorted(verdict.flags.items(), key=lambda pair: _order(pair[1])):
        terminal.write_line(f"{flag}: {decision}")
    markup = {_COLOURS[verdict.verdict]: True, "bold": True}
    dry = " (dry run: never promotable)" if verdict.dry_run else ""
    terminal.write_line(f"verdict: {verdict.verdict}{dry}; {folder / 'verdict.json'}", **markup)
    for command in head.commands:
        terminal.write_line(f"next: {command}")


def write_junit(folder: Path, verdict: Verdict, outcomes: Mapping[str, str]) -> None:
    """Write `junit.xml`; a reader never sees half of it."""
    partial = folder / f"{JUNIT_FILE}.partial"
    junit(verdict, outcomes).write(str(partial))
    partial.replace(folder / JUNIT_FILE)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows with their columns under each other; the last column runs free."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[-1]]).rstrip()


def junit(verdict: Verdict, outcomes: Mapping[str, str]) -> JUnitXml:
    """One suite of criteria and one of items: what is not a pass is never a passed case."""
    document = JUnitXml("phase5")
    criteria = TestSuite("phase5.criteria")
    for row in verdict.criteria:
        case = TestCase(row.id, classname="phase5.criteria")
        case.result = _criterion_result(row)
        case.system_out = "\n".join(f"{name}: {value}" for name, value in shown(row).facts())
        criteria.add_testcase(case)
    items = TestSuite("phase5.items")
    for name, outcome in sorted(outcomes.items()):
        case = TestCase(name, classname="phase5.items")
        case.result = _item_result(outcome)
        items.add_testcase(case)
    for suite in (criteria, items):
        document.add_testsuite(suite)
    return document


def _criterion_result(row: CriterionRow) -> list[FinalResult]:
    if row.outcome is Outcome.PASS:
        return []
    kind = Failure if row.outcome is Outcome.FAIL else Error
    return [kind(row.reason, str(row.outcome))]


def _item_result(outcome: str) -> list[FinalResult]:
    if outcome == "passed":
        return []
    if outcome in _FAILED:
        return [Failure(outcome)]
    return [Error(outcome)] if outcome == "crashed" else [Skipped(outcome)]


def _cells(told: Shown) -> tuple[str, ...]:
    stretch = "" if told.stretch == NONE else f", stretch {told.stretch}"
    outcome = f"{told.outcome}{stretch}"
    return (told.id, outcome, told.estimate, told.limit, told.n, told.interval, told.reason)


def _order(decision: Decision) -> int:
    return -tuple(Decision).index(decision)
