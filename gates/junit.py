"""A JUnit report of another program as a measurement: one check for each test that ran.

JUnit has no room for where a report came from, so its suites must say it in their properties:
`phase5.commit`, the build that was tested, and `phase5.created` where the `timestamp` has no
zone. A test that passed at a second attempt did not pass.
"""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from junitparser import JUnitXml, Skipped, TestCase, TestSuite

from gates.evidence import REPORT_ITEM, Check, EvidenceError, Measurement

COMMIT_PROPERTY: Final = "phase5.commit"
CREATED_PROPERTY: Final = "phase5.created"

#: What Maven and others write into a test that passed at last.
_RETRIED: Final = frozenset({"rerunFailure", "rerunError", "flakyFailure", "flakyError"})
_DETAIL_WIDTH: Final = 200


def read_report(path: Path) -> Measurement:
    """The tests of a report.

    Raises:
        EvidenceError: not readable, not JUnit, or its suites hold less than they say.
    """
    try:
        content = path.read_bytes()
        report = JUnitXml.fromstring(content)
        suites = _suites(report)
        problems = [problem for suite in suites for problem in _problems(suite)]
    except OSError as error:  # without its path: the same folder elsewhere reads the same
        raise EvidenceError(f"{path.name}: not readable: {error.strerror}") from error
    except Exception as error:  # each XML parser has errors of its own, and any is a torn file
        raise EvidenceError(f"{path.name}: not readable as JUnit: {error}") from error
    if problems:
        raise EvidenceError(f"{path.name}: {problems[0]}")
    return _measurement(suites, sha256(content).hexdigest())


def _suites(report: JUnitXml | TestSuite) -> list[TestSuite]:
    """The outermost ones: their tests are also those of the suites inside."""
    return [report] if isinstance(report, TestSuite) else list(report)


def _problems(suite: TestSuite) -> Sequence[str]:
    """A report that was cut short, or cleaned up by hand, holds less than it says.

    It may hold more: pytest writes a test twice that fails in its body and behind it.
    """
    cases = list(suite)
    bad = sum(not _passed(case) and not _skipped(case) for case in cases)
    pairs = (
        ("tests", suite.tests or 0, len(cases)),
        ("failures and errors", (suite.failures or 0) + (suite.errors or 0), bad),
    )
    return [
        f"suite {suite.name!r} says {said} {what} and holds {held}"
        for what, said, held in pairs
        if held < said
    ]


def _measurement(suites: Sequence[TestSuite], digest: str) -> Measurement:
    commits = {_property(suite, COMMIT_PROPERTY) for suite in suites}
    name = suites[0].name if suites else ""
    return Measurement(
        run="",
        item=f"{REPORT_ITEM}{name}",
        attempt=1,
        criteria=(),
        arms={},
        machine="",
        created=_oldest([_property(s, CREATED_PROPERTY) or s.timestamp or "" for s in suites]),
        commit=", ".join(sorted(commits)),  # of two builds: of none
        checks=tuple(_check(s, case) for s in suites for case in s if not _skipped(case)),
        id=digest[:32],
    )


def _property(suite: TestSuite, name: str) -> str:
    properties = suite.properties()  # type: ignore[no-untyped-call] # the package is half typed
    return {p.name: str(p.value) for p in properties}.get(name, "")


def _oldest(created: Sequence[str]) -> str:
    """The oldest of some times; one that is none, or has no zone, spoils them all."""
    times = []
    for text in created:
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            return text
        if time.utcoffset() is None:
            return text
        times.append((time, text))
    return min(times)[1] if times else ""


def _check(suite: TestSuite, case: TestCase) -> Check:
    name = "::".join(str(part) for part in (suite.name, case.classname, case.name) if part)
    reasons = [str(result.message or "") for result in case.result]
    detail = " ".join(" ".join(reasons).split())[:_DETAIL_WIDTH]
    return Check(name=name, ok=_passed(case), detail=detail)


def _passed(case: TestCase) -> bool:
    """JUnit says nothing of a test that passed."""
    retried = any(child.tag in _RETRIED for child in case._elem)  # noqa: SLF001 - it has no names for them
    return not case.result and not retried


def _skipped(case: TestCase) -> bool:
    """Skipped, and nothing else: it shows nothing."""
    return bool(case.result) and all(isinstance(result, Skipped) for result in case.result)
