"""The tests of other suites that passed at the last verdict: what vanishes has not passed.

They are carried from one verdict to the next, until a verdict finds them all: a test cannot
be lost by judging twice.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from gates.completeness import passed
from gates.criteria import Measure, Outcome
from gates.evidence import EVIDENCE_DIR, VERDICT_FILE, EvidenceError, Measurement
from gates.junit import read_report
from gates.stages import Policy
from gates.verdict import from_json

EARLIER_FILE: Final = "earlier.json"
_SCHEMA: Final = "phase5.earlier/1"


def read_earlier(path: Path) -> frozenset[str]:
    """The names in a file.

    Raises:
        EvidenceError: not readable, or of another form.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != _SCHEMA or not all(isinstance(t, str) for t in document["tests"]):
            raise EvidenceError(f"{path.name}: not a list of tests of schema {_SCHEMA!r}")
        return frozenset(document["tests"])
    except OSError as error:
        raise EvidenceError(f"{path.name}: not readable: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EvidenceError(f"{path.name}: not readable: {error}") from error


def earlier_text(tests: Iterable[str]) -> str:
    """The text of a file."""
    return json.dumps({"schema": _SCHEMA, "tests": sorted(tests)}, indent=1) + "\n"


def text_for_next(folder: Path, policy: Policy) -> str | None:
    """What the verdict after the one in a folder has to be judged by; None: by nothing.

    A file that cannot be read stays as it is, so that the next verdict complains of it too.
    """
    path = folder / EARLIER_FILE
    try:
        before = read_earlier(path) if path.exists() else frozenset[str]()
    except EvidenceError:
        return path.read_text(encoding="utf-8", errors="replace")
    now = passed(list(_reports(folder / EVIDENCE_DIR)))
    tests = now if _green(folder, policy) else before | now
    return earlier_text(tests) if tests else None


def _reports(directory: Path) -> Iterator[Measurement]:
    """The reports that can be read; no verdict is green beside one that cannot."""
    for path in sorted(directory.glob("*.xml")):
        with contextlib.suppress(EvidenceError):
            yield read_report(path)


def _green(folder: Path, policy: Policy) -> bool:
    """Whether the verdict in a folder found all that it looked for."""
    try:
        verdict = from_json((folder / VERDICT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    suites = {c.id for c in policy.criteria.values() if c.measure is Measure.SUITE}
    outcomes = [row.outcome for row in verdict.criteria if row.id in suites]
    return bool(outcomes) and set(outcomes) == {Outcome.PASS}
