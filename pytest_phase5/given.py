"""Evidence that other runs left: copied into the report folder, where the judge reads it."""

import uuid
from collections.abc import Iterator
from pathlib import Path

from gates.evidence import ATTEMPTS_FILE, EVIDENCE_DIR
from gates.reader import ATTEMPTS_SUFFIX, OWN_SUFFIX, REPORT_SUFFIX


def take(path: Path, target: Path) -> None:
    """Copy a file, the report folder of a gate or of a load run, or a folder of such files.

    What is missing leaves a torn file, so that the verdict says so.
    """
    target.mkdir(parents=True, exist_ok=True)
    sources = list(_sources(path)) or [(path, OWN_SUFFIX)]
    for source, suffix in sources:
        try:
            content = source.read_bytes()
        except OSError:
            content = b""
        name = f"given-{source.stem}-{uuid.uuid4().hex[:8]}{suffix}"
        (target / name).write_bytes(content)


def _sources(path: Path) -> Iterator[tuple[Path, str]]:
    """The files to copy, and what their copies end with."""
    if not path.is_dir():
        yield path, REPORT_SUFFIX if path.suffix == REPORT_SUFFIX else OWN_SUFFIX
        return
    attempts, evidence = path / ATTEMPTS_FILE, path / EVIDENCE_DIR
    if attempts.is_file():
        yield attempts, ATTEMPTS_SUFFIX
    for file in sorted((evidence if evidence.is_dir() else path).iterdir()):
        if file.name.endswith(ATTEMPTS_SUFFIX):
            yield file, ATTEMPTS_SUFFIX
        elif file.suffix in (OWN_SUFFIX, REPORT_SUFFIX) and file != attempts:
            yield file, file.suffix
