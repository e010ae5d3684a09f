"""JUnit reports of other programs as measurements: one check for each test that ran.

JUnit has no room for where a report came from, so the suite must say it in its properties:
`phase5.commit`, the build that was tested, and `phase5.created` where the `timestamp` has no
zone. A test that passed at a second attempt did not pass.
"""

from collections.abc import Iterator
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


def read_report(path: Path) -> tuple[Measurement, ...]:
    """The suites of a report, each a measurement.

    Raises:
        EvidenceError: not readable, not JUnit, or its suites hold less than they say.
    """
    try:
        content = path.read_bytes()
        report = JUnitXml.fromstring(content)
        suites = list(_suites(report))
    except OSError as error:  # without its path: the same folder elsewhere reads the same
        raise EvidenceError(f"{path.name}: not readable: {error.strerror}") from error
    except Exception as error:
        raise EvidenceError(f"{path.name}: not readable as JUnit: {error}") from error
    for suite in suites:
        _check_counts(path.name, suite)
    digest = sha256(content).hexdigest()
    return tuple(_measurement(suite, f"{digest[:24]}-{n}") for n, suite in enumerate(suites))


def _suites(report: JUnitXml | TestSuite) -> Iterator[TestSuite]:
    """Every suite, those inside others after them."""
    if isinstance(report, TestSuite):
        yield report
        inner = report.testsuites()  # type: ignore[no-untyped-call] # the package is half typed
    else:
        inner = iter(report)
    for suite in inner:
        yield from _suites(suite)


def _check_counts(name: str, suite: TestSuite) -> None:
    """A report that was cut short, or cleaned up by hand, holds less than it says.

    It may hold more: pytest writes a test twice that fails in its body and behind it.
    """
    inside = list(_suites(suite))
    cases = [case for part in inside for case in part]
    bad = sum(not _passed(case) and not _skipped(case) for case in cases)
    for what, said, held in (
        ("tests", int(suite.tests or 0), len(cases)),
        ("failures and errors", int(suite.failures or 0) + int(suite.errors or 0), bad),
    ):
        if held < said:
            raise EvidenceError(f"{name}: suite {suite.name!r} says {said} {what} and holds {held}")


def _measurement(suite: TestSuite, name: str) -> Measurement:
    properties = {p.name: str(p.value) for p in suite.properties()}  # type: ignore[no-untyped-call] # as above
    return Measurement(
        run="",
        item=f"{REPORT_ITEM}{suite.name}",
        attempt=1,
        criteria=(),
        arms={},
        machine=suite.hostname or "",
        created=properties.get(CREATED_PROPERTY) or suite.timestamp or "",
        commit=properties.get(COMMIT_PROPERTY, ""),
        checks=tuple(_check(suite, case) for case in suite if not _skipped(case)),
        id=name,
    )


def _check(suite: TestSuite, case: TestCase) -> Check:
    name = "::".join(str(part) for part in (suite.name, case.classname, case.name) if part)
    reasons = [str(result.message or "") for result in case.result]
    detail = " ".join(" ".join(reasons).split())[:_DETAIL_WIDTH]
    return Check(name=name, ok=_passed(case), detail=detail)


def _passed(case: TestCase) -> bool:
    """JUnit says nothing of a test that passed."""
    retried = any(child.tag in _RETRIED for child in case._elem)  # noqa: SLF001 - has no name for them
    return not case.result and not retried


def _skipped(case: TestCase) -> bool:
    """Skipped, and nothing else: it shows nothing."""
    return bool(case.result) and all(isinstance(result, Skipped) for result in case.result)
