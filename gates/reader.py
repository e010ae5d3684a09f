"""A report folder as `Evidence`. What cannot be read becomes a problem, never a gap."""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

from gates.attempts import Attempt, read_attempts
from gates.earlier import EARLIER_FILE, read_earlier
from gates.evidence import (
    ATTEMPTS_FILE,
    EVIDENCE_DIR,
    EvidenceError,
    Measurement,
    read_measurement,
)
from gates.judge import Evidence
from gates.junit import read_report
from gates.ledger_file import LEDGER_FOLDER, read
from gates.verdict import EvidenceFile

#: What the files of `evidence/` end with: our own, other runs' attempts, JUnit reports.
OWN_SUFFIX: Final = ".jsonl"
ATTEMPTS_SUFFIX: Final = f".{ATTEMPTS_FILE}"
REPORT_SUFFIX: Final = ".xml"

Content = TypeVar("Content")


def read_folder(folder: Path) -> Evidence:
    """Read everything that a gated session left behind."""
    reading = _Reading(folder)
    ledgers = [reading.read(path, read) for path in _files(folder, LEDGER_FOLDER)]
    attempts = _attempts(reading, live=bool(ledgers)) or ()
    earlier = folder / EARLIER_FILE
    tests = reading.read(earlier, read_earlier) if earlier.exists() else None
    others: list[tuple[Attempt, ...]] = []
    found: dict[Path, Measurement | None] = {}
    for path in _files(folder, EVIDENCE_DIR):
        if path.name.endswith(ATTEMPTS_SUFFIX):
            others += filter(None, [reading.read(path, read_attempts)])
        elif path.suffix == REPORT_SUFFIX:
            found[path] = reading.read(path, read_report)
        elif path.suffix == OWN_SUFFIX:
            found[path] = reading.read(path, read_measurement)
        else:
            allowed = f"{OWN_SUFFIX}, {REPORT_SUFFIX}"
            reading.problems.append(f"{path.name}: not an evidence file; expected {allowed}")
    measured = {path: measurement for path, measurement in found.items() if measurement}
    return Evidence(
        attempts=attempts,
        others=tuple(others),
        earlier=tests or frozenset(),
        measurements=tuple(measured.values()),
        places={m.id: path.relative_to(folder).as_posix() for path, m in measured.items()},
        ledgers=tuple(ledger for ledger in ledgers if ledger),
        files=tuple(reading.files),
        problems=tuple(reading.problems),
    )


@dataclass(slots=True)
class _Reading:
    """The files of a folder that were read, and what was wrong with the others."""

    folder: Path
    files: list[EvidenceFile] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def read(self, path: Path, reader: Callable[[Path], Content]) -> Content | None:
        """The content of a file; None, and a problem, when it is not readable."""
        try:
            content = reader(path)
            self.files.append(_file(self.folder, path))
        except EvidenceError as error:
            self.problems.append(str(error))
            return None
        except OSError as error:
            self.problems.append(f"{path.name}: not readable: {error.strerror}")
            return None
        return content


def _attempts(reading: _Reading, *, live: bool) -> tuple[Attempt, ...] | None:
    """What pytest did; beside a ledger there need not have been a session."""
    path = reading.folder / ATTEMPTS_FILE
    return None if live and not path.exists() else reading.read(path, read_attempts)


def _files(folder: Path, name: str) -> list[Path]:
    directory = folder / name
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _file(folder: Path, path: Path) -> EvidenceFile:
    content = path.read_bytes()
    rows = content.count(b"\n")
    name = path.relative_to(folder).as_posix()
    return EvidenceFile(file=name, sha256=sha256(content).hexdigest(), rows=rows)
