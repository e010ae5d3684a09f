"""What the processes of one run leave for the one that merges: files by share, and their form.

A share is what one process sends: every `shares`-th request of the schedule.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TextIO, TypeVar

from gates.samples import Sample, to_row
from pytest_phase5.load.progress import Progress, write_progress
from pytest_phase5.load.schemas import check_schema, write_whole

#: The one environment variable of a Locust process of ours: the path of its plan, beside
#: which it leaves its part. A worker on another machine has none and is told over the wire.
PLAN_VARIABLE: Final = "PHASE5_LOAD_PLAN"
PART_SCHEMA: Final = "phase5.load-part/1"
#: Locust's own count of the run, without the suffix that Locust appends.
STATS: Final = "stats"
LOG: Final = "locust.log"
#: Types of Locust's `request` events: the whole request, and its first token.
WHOLE: Final = "POST"
FIRST_TOKEN: Final = "TTFT"  # noqa: S105 - a word, not a password
MASTER: Final = "master"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """How the share of one process, or the whole run for a master, ended."""

    share: int | None  #: None: a master, which sends nothing itself
    shares: int
    complete: bool
    reason: str  #: why it is not complete
    started: str  #: UTC, ISO 8601
    origin: float  #: `time.monotonic()` of the process at the start
    rows: int = 0
    connections: int = 0


def mine(timeline: Sequence[T], share: int, shares: int) -> Sequence[T]:
    """The share of one process: all together have each request once."""
    return timeline[share::shares]


def rows_file(folder: Path, share: int) -> Path:
    """Samples, one JSON line each, appended as requests end."""
    return folder / f"rows-{share}.jsonl"


def progress_file(folder: Path, share: int) -> Path:
    """A line a second."""
    return folder / f"progress-{share}.jsonl"


def part_file(folder: Path, share: int | None) -> Path:
    """How it ended; written last."""
    return folder / f"part-{MASTER if share is None else share}.json"


def write_part(folder: Path, part: Part) -> None:
    """Write a part at once or not at all."""
    write_whole(part_file(folder, part.share), PART_SCHEMA, asdict(part))


def read_part(path: Path) -> Part:
    """Read a part back.

    Raises:
        ValueError: for anything but a part; it names the file.
        OSError: when the file cannot be read.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        check_schema(fields.pop("schema", None), PART_SCHEMA)
        return Part(**fields)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path.name}: not a part of a run: {error}") from error


class Desk(Protocol):
    """Takes what a process has to say of its share."""

    def row(self, sample: Sample) -> None:
        """A request ended."""

    def progress(self, progress: Progress) -> None:
        """A second went by."""

    def part(self, part: Part) -> None:
        """The share is over; nothing follows."""


class FileDesk:
    """Writes the files of one share."""

    def __init__(self, folder: Path, share: int) -> None:
        self._folder, self._share = folder, share
        # By line, so that a process that is killed loses at most the last one.
        self._rows: TextIO = rows_file(folder, share).open("a", encoding="utf-8", buffering=1)

    def row(self, sample: Sample) -> None:
        """Append a sample."""
        self.lines([to_row(sample)])

    def lines(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append rows that came over the wire."""
        for row in rows:
            self._rows.write(json.dumps(row, separators=(",", ":")) + "\n")

    def progress(self, progress: Progress) -> None:
        """Append a line of progress."""
        write_progress(progress_file(self._folder, self._share), progress)

    def part(self, part: Part) -> None:
        """Close the rows, then say how it ended."""
        self._rows.close()
        write_part(self._folder, part)
