"""Exit statuses of the commands and the two ways in which they speak. Light: a rollback waits."""

import json
import sys
from typing import Any, Final

DONE: Final = 0
ERROR: Final = 1
USAGE: Final = 2


def refuse(message: str, status: int, *, as_json: bool) -> int:
    """Say what cannot be done, on standard error, and return a status."""
    if as_json:
        say_json({"error": message})
    warn(message)
    return status


def say(text: str) -> None:
    """A line on standard output, there at once: what comes next may take a while."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def say_json(document: Any) -> None:
    """The one object of a command with `--json`."""
    say(json.dumps(document, allow_nan=False))


def warn(text: str) -> None:
    """A line on standard error."""
    sys.stderr.write(f"{text}\n")
