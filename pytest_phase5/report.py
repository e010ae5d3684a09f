"""The verdict for people and for other programs: terminal, `summary.md`, `junit.xml`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite
from junitparser.junitparser import FinalResult

from gates.criteria import Outcome
from gates.verdict import CriterionRow, Decision, Verdict

SUMMARY_FILE: Final = "summary.md"
JUNIT_FILE: Final = "junit.xml"

_HEAD: Final = ("criterion", "outcome", "measured", "limit", "n", "interval", "reason")
_COLOURS: Final = {Decision.PROMOTE: "green", Decision.HOLD: "yellow", Decision.ROLLBACK: "red"}

#: Outcomes of items that JUnit knows as a failure of the test itself.
_FAILED: Final = frozenset({"failed", "xpassed"})


def write_terminal(
    terminal: pytest.TerminalReporter, verdict: Verdict, unmarked: int, folder: Path
) -> None:
    """One aligned row for each criterion, then one for each flag, worst last."""
    terminal.write_sep("=", f"phase5 gate: {describe(verdict)}")
    rows = sorted(verdict.criteria, key=lambda row: _severity(row.outcome))
    for line in aligned([_HEAD, *(_cells(row) for row in rows)]):
        terminal.write_line(line)
    if unmarked:
        terminal.write_line(f"{unmarked} tests that this gate does not ask for were deselected")
    for flag, decision in sorted(verdict.flags.items(), key=lambda pair: _order(pair[1])):
        terminal.write_line(f"{flag}: {decision}")
    markup = {_COLOURS[verdict.verdict]: True, "bold": True}
    dry = " (dry run: never promotable)" if verdict.dry_run else ""
    terminal.write_line(f"verdict: {verdict.verdict}{dry}; {folder / 'verdict.json'}", **markup)


def write_files(folder: Path, verdict: Verdict, outcomes: Mapping[str, str]) -> None:
    """Write `summary.md` and `junit.xml`; a reader never sees half of either."""
    _replace(folder / SUMMARY_FILE, "\n".join(markdown(verdict)) + "\n")
    partial = folder / f"{JUNIT_FILE}.partial"
    junit(verdict, outcomes).write(str(partial))
    partial.replace(folder / JUNIT_FILE)


def describe(verdict: Verdict) -> str:
    """The verdict and the steps that it is about, in a few words."""
    steps = verdict.transition.get("each", {})
    each = [f"{flag} {step['from']} -> {step['to']}" for flag, step in sorted(steps.items())]
    same = {(step["from"], step["to"]) for step in steps.values()}
    if len(same) == 1:
        ((origin, target),) = same
        each = [f"{origin} -> {target} ({', '.join(sorted(steps))})"]
    return f"{verdict.verdict}: {'; '.join(each) or 'no flag'}"


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows with their columns under each other; the last column runs free."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[-1]]).rstrip()


def markdown(verdict: Verdict) -> Iterator[str]:
    """The lines of `summary.md`."""
    yield f"# Gate: {describe(verdict)}"
    yield ""
    if verdict.dry_run:
        yield "Dry run: this verdict can never promote."
        yield ""
    yield "| " + " | ".join(_HEAD) + " |"
    yield "|" + " --- |" * len(_HEAD)
    for row in sorted(verdict.criteria, key=lambda row: _severity(row.outcome)):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(row)) + " |"
    yield ""
    for flag, decision in sorted(verdict.flags.items()):
        yield f"- `{flag}`: **{decision}**"
    yield ""
    subject = verdict.subject
    models = ", ".join(f"{name} {sha[:12]}" for name, sha in sorted(subject.models.items()))
    yield f"Engine {subject.engine_version}, commit {subject.commit}, models: {models or 'none'}."
    yield f"Created {verdict.created}, expires {verdict.expires}."


def junit(verdict: Verdict, outcomes: Mapping[str, str]) -> JUnitXml:
    """One suite of criteria and one of items: what is not a pass is never a passed case."""
    document = JUnitXml("phase5")
    criteria = TestSuite("phase5.criteria")
    for row in verdict.criteria:
        case = TestCase(row.id, classname="phase5.criteria")
        case.result = _criterion_result(row)
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


def _cells(row: CriterionRow) -> tuple[str, ...]:
    interval = "-" if row.interval is None else "-".join(_number(end) for end in row.interval)
    outcome = f"{row.outcome} (waived)" if row.waived else str(row.outcome)
    if row.stretch is not None:
        outcome += f", stretch {row.stretch}"
    limit = _number(row.limit)
    return (row.id, outcome, _number(row.estimate), limit, str(row.n), interval, row.reason)


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"


def _severity(outcome: Outcome) -> int:
    """Passes first, failures last: what matters stands next to the prompt."""
    return -tuple(Outcome).index(outcome)


def _order(decision: Decision) -> int:
    return -tuple(Decision).index(decision)


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
