"""A report folder as `Evidence`. What cannot be read becomes a problem, never a gap."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

from gates.attempts import Attempt, read_attempts
from gates.evidence import (
    ATTEMPTS_FILE,
    EVIDENCE_DIR,
    EvidenceError,
    Measurement,
    read_measurement,
)
from gates.judge import Evidence
from gates.verdict import EvidenceFile

_SUFFIX: Final = ".jsonl"

Content = TypeVar("Content")


def read_folder(folder: Path) -> Evidence:
    """Read everything that a gated session left behind."""
    problems: list[str] = []
    files: list[EvidenceFile] = []

    def read(path: Path, reader: Callable[[Path], Content]) -> Content | None:
        try:
            content = reader(path)
            files.append(_file(folder, path))
        except EvidenceError as error:
            problems.append(str(error))
            return None
        except OSError as error:
            problems.append(f"{path.name}: not readable: {error.strerror}")
            return None
        return content

    attempts: tuple[Attempt, ...] = read(folder / ATTEMPTS_FILE, read_attempts) or ()
    measurements: list[Measurement] = []
    for path in _evidence_files(folder):
        if path.suffix != _SUFFIX:
            problems.append(f"{path.name}: not an evidence file; expected {_SUFFIX}")
            continue
        measurement = read(path, read_measurement)
        measurements += [measurement] if measurement else []
    return Evidence(
        attempts=attempts,
        measurements=tuple(measurements),
        files=tuple(files),
        problems=tuple(problems),
    )


def _evidence_files(folder: Path) -> list[Path]:
    directory = folder / EVIDENCE_DIR
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _file(folder: Path, path: Path) -> EvidenceFile:
    content = path.read_bytes()
    rows = content.count(b"\n")
    name = path.relative_to(folder).as_posix()
    return EvidenceFile(file=name, sha256=sha256(content).hexdigest(), rows=rows)
