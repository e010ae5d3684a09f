"""One run from the parts of its processes, and whether Locust counted the same: pure readers."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gates.samples import Outcome, Sample, read_rows
from pytest_phase5.load.locust_driver.parts import (
    LOG,
    STATS,
    WHOLE,
    Part,
    part_file,
    progress_file,
    read_part,
    rows_file,
)
from pytest_phase5.load.locust_driver.tree import OUTPUT
from pytest_phase5.load.progress import Progress, ProgressReader

#: Lines of a log that go into a reason.
_TAIL = 3


@dataclass(frozen=True, slots=True)
class Merged:
    """The samples of all processes in order, and what is wrong with them."""

    samples: tuple[Sample, ...]
    parts: tuple[Part, ...]
    reason: str  #: why the run is not complete
    faults: tuple[str, ...]  #: of a complete one

    @property
    def first(self) -> Part | None:
        """The part that says when the run began: the master's, or that of the one process."""
        return min(
            self.parts, key=lambda part: -1 if part.share is None else part.share, default=None
        )


def merge(folder: Path, shares: int, *, master: bool) -> Merged:
    """Read what the processes left.

    Args:
        folder: of Locust's processes.
        shares: how many send.
        master: whether another one leads them.

    Raises:
        ValueError: for a row or part that cannot be read.
    """
    wanted = [*([None] if master else []), *range(shares)]
    parts = [read_part(path) for share in wanted if (path := part_file(folder, share)).exists()]
    files = [path for share in range(shares) if (path := rows_file(folder, share)).exists()]
    samples = sorted((row for path in files for row in read_rows(path)), key=lambda row: row.index)
    reason = "; ".join(_incomplete(parts, wanted))
    faults = () if reason else tuple(_miscounts(folder, samples))
    return Merged(tuple(samples), tuple(parts), reason, faults)


def tail(folder: Path) -> str:
    """The last lines that Locust and Python wrote, for a reason."""
    lines: list[str] = []
    for name in (LOG, OUTPUT):
        path = folder / name
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        lines += [line.strip() for line in text.splitlines() if line.strip()][-_TAIL:]
    return " | ".join(lines) or "no output"


class ProgressSum:
    """The progress of all processes together."""

    def __init__(self, folder: Path, shares: int) -> None:
        self._readers = [ProgressReader(progress_file(folder, share)) for share in range(shares)]
        self._last: list[Progress | None] = [None] * shares

    def new(self) -> Progress | None:
        """Where the run is; None while nothing was added, or not every process has begun."""
        news = [reader.new() for reader in self._readers]
        self._last = [new[-1] if new else old for new, old in zip(news, self._last, strict=True)]
        known = [progress for progress in self._last if progress is not None]
        if not any(news) or len(known) < len(self._last):
            return None
        counts = ("planned", "sent", "ended", "errors", "dropped")
        sums = {name: sum(getattr(progress, name) for progress in known) for name in counts}
        return Progress(at=max(progress.at for progress in known), **sums)


def _incomplete(parts: Sequence[Part], wanted: Sequence[int | None]) -> Iterator[str]:
    """A master's word counts: it says what went wrong, the others only that they ended."""
    leading = [part.reason for part in parts if part.share is None and part.reason]
    yield from leading or dict.fromkeys(part.reason for part in parts if part.reason)
    missing = [share for share in wanted if share not in {part.share for part in parts}]
    for share in missing:
        yield "the master left no report" if share is None else f"process {share} left no report"


def _miscounts(folder: Path, samples: Sequence[Sample]) -> Iterator[str]:
    """Where our rows and Locust's own books differ."""
    path = folder / f"{STATS}.json"
    try:
        entries = [e for e in json.loads(path.read_text(encoding="utf-8")) if e["method"] == WHOLE]
        requests, failures = _sum(entries, "num_requests"), _sum(entries, "num_failures")
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield f"Locust's own count cannot be read: {error}"
        return
    sent = [sample for sample in samples if sample.outcome is not Outcome.DROPPED]
    failed = [s for s in sent if s.outcome not in {Outcome.OK, Outcome.CANCELLED}]
    if requests != len(sent):
        yield f"{len(sent)} rows of sent requests, Locust counted {requests}"
    if failures != len(failed):
        yield f"{len(failed)} rows of failures, Locust counted {failures}"


def _sum(entries: Sequence[dict[str, Any]], name: str) -> int:
    return sum(int(entry[name]) for entry in entries)
