"""Where a guard keeps what it must not forget: `CONFIGURATION-FILE.state/guard/`.

`ledger/` and `verdicts/` are evidence, `journal.jsonl` has the rollbacks, `told.json` what people
know, `seen.json` the store's last generation, `heartbeat.json` that the guard lives. One guard at
a time writes here: the one that holds `lock`. Another waits, and takes over when the first ends.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from gates.durable import write_file

LOCK_FILE: Final = "lock"
SEEN_FILE: Final = "seen.json"
HEARTBEAT_FILE: Final = "heartbeat.json"
#: What people know, so that a guard that begins does not tell it again.
TOLD_FILE: Final = "told.json"
VERDICTS: Final = "verdicts"


class BusyError(RuntimeError):
    """Another guard works in this folder. The message names it."""


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold a folder's lock; the system lets go of it when the process ends, however it does.

    Raises:
        BusyError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise BusyError(f"{folder}: another guard works here, process {holder}") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def replace_json(path: Path, body: Mapping[str, Any], *, durable: bool = True) -> None:
    """Write a file so that a reader sees the former or the new one, never half of it."""
    write_file(path, json.dumps(body, sort_keys=True).encode(), durable=durable)


def read_json(path: Path) -> dict[str, Any]:
    """What a file of `replace_json` holds; empty where there is none, or none of ours."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}
