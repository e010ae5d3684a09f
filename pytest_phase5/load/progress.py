"""How far a run is: one line a second in a file, so that any driver can be watched."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

PROGRESS_FILE: Final = "progress.jsonl"
#: Seconds between two lines.
TICK: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run is at `at` seconds from its start. Counts include the warm-up."""

    at: float
    planned: int
    sent: int
    ended: int
    errors: int  #: of those that ended: failed or cut
    dropped: int

    @property
    def in_flight(self) -> int:
        """Requests that were sent and have not ended."""
        return self.sent - self.ended


def write_progress(path: Path, progress: Progress) -> None:
    """Append a line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(progress)) + "\n")


class ProgressReader:
    """Reads what was added since the last look. A line that is still being written waits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def new(self) -> list[Progress]:
        """The new lines, none while the file does not exist."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")[0]
        self._read += len(whole) + 1 if whole else 0
        return [Progress(**json.loads(line)) for line in whole.splitlines()]
