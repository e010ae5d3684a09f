"""What pytest's reports and exceptions come to, in the words of the attempts file."""

from typing import Final

import pytest

#: Reasons are for people: one line of this many characters.
_REASON_WIDTH: Final = 300


def outcome_of(report: pytest.TestReport) -> str:
    """Pytest's outcome, with xfail told apart from a skip and from a pass."""
    if hasattr(report, "wasxfail"):
        return {"skipped": "xfailed", "passed": "xpassed"}.get(report.outcome, report.outcome)
    return report.outcome


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """One line that says why: the skip's reason, or the last line of the failure."""
    given = report.longrepr
    if isinstance(given, tuple):
        return one_line(str(given[2]))
    lines = [line for line in report.longreprtext.splitlines() if line.strip()]
    return one_line(str(getattr(report, "wasxfail", "")) or (lines[-1] if lines else ""))


def one_line(text: str) -> str:
    """A text on one line, cut off where it gets long."""
    line = " ".join(text.split())
    return line if len(line) <= _REASON_WIDTH else line[: _REASON_WIDTH - 3] + "..."


def never_zero(error: BaseException) -> None:
    """`pytest.exit(returncode=0)` cuts a session short, so nothing was promoted."""
    if isinstance(error, pytest.exit.Exception) and error.returncode == 0:
        error.returncode = int(pytest.ExitCode.INTERRUPTED)


def exit_status(session: pytest.Session, error: BaseException | None) -> int:
    """What pytest would end with if there were no verdict."""
    if isinstance(error, pytest.Session.Failed):
        return int(pytest.ExitCode.TESTS_FAILED)
    if isinstance(error, KeyboardInterrupt | pytest.exit.Exception):
        return int(pytest.ExitCode.INTERRUPTED)
    if error is not None:
        return int(pytest.ExitCode.INTERNAL_ERROR)
    if session.testsfailed:
        return int(pytest.ExitCode.TESTS_FAILED)
    empty = session.testscollected == 0
    return int(pytest.ExitCode.NO_TESTS_COLLECTED if empty else pytest.ExitCode.OK)
