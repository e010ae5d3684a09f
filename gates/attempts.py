"""`attempts.jsonl`: each planned item, then each phase of each attempt, and failed collections.

The gate reads this and not pytest's exit code: what was planned and has no final pass is
missing, whatever the reason (skipped, xfailed, rerun, deselected, crashed, never reached).
"""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Any, Final

from gates.evidence import EvidenceError

ATTEMPTS_SCHEMA: Final = "phase5.attempts/1"


#: How a phase can end. Only the first is a pass.
OUTCOMES: Final = ("passed", "failed", "skipped", "xfailed", "xpassed", "rerun")


class Kind(StrEnum):
    """What a row tells."""

    SESSION = "session"  #: first row of a run: its stage, flags and worker count
    PLANNED = "planned"  #: an item that must pass
    DESELECTED = "deselected"  #: a required item that an option took away
    PHASE = "phase"  #: setup, call or teardown of one attempt ended
    COLLECT_ERROR = "collect_error"
    WORKER_CRASH = "worker_crash"
    END = "end"  #: last row; without it the session was killed
    OBJECTION = "objection"  #: an add-on says hold or rollback; the only row after the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One row. Fields that do not apply to its kind are None."""

    kind: Kind
    run: str
    item: str | None = None
    criteria: tuple[str, ...] = ()  #: planned: its own; session: those that add-ons require
    attempt: int | None = None  #: counted from 1
    phase: str | None = None  #: setup, call, teardown
    outcome: str | None = None  #: one of `OUTCOMES`; of an objection: hold, rollback
    reason: str = ""
    worker: str | None = None
    stage: str | None = None  #: session: the stage of `--phase5-gate`
    flags: tuple[str, ...] = ()  #: session: the flags that are judged
    origin: str | None = None  #: session: `store`, or `off` under `--phase5-from=off`
    workers: int | None = None  #: session: pytest workers on this machine
    exit_status: int | None = None  #: end: pytest's own exit status before the verdict


def append_attempt(path: Path, attempt: Attempt) -> None:
    """Append one row and flush it, so that a killed session keeps what it had."""
    fields = {key: value for key, value in asdict(attempt).items() if value not in (None, "", ())}
    row = {"schema": ATTEMPTS_SCHEMA, **fields}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, separators=(",", ":")) + "\n")


def read_attempts(path: Path) -> tuple[Attempt, ...]:
    """All rows of a file.

    Raises:
        EvidenceError: when it is missing, empty, torn or of another schema.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        attempts = tuple(_from_row(path, row) for row in rows)
    except EvidenceError:
        raise
    except OSError as error:  # without its path: the same folder elsewhere reads the same
        raise EvidenceError(f"{path.name}: not readable: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise EvidenceError(f"{path.name}: not readable: {error}") from error
    if not attempts:
        raise EvidenceError(f"{path.name}: empty")
    return attempts


def _from_row(path: Path, row: dict[str, Any]) -> Attempt:
    schema = row.pop("schema", None)
    if schema != ATTEMPTS_SCHEMA:
        raise EvidenceError(f"{path.name}: schema {schema!r}; allowed: {ATTEMPTS_SCHEMA!r}")
    for key in ("criteria", "flags"):
        row[key] = tuple(row.get(key, ()))
    row["kind"] = Kind(row["kind"])
    for key in ("attempt", "workers", "exit_status"):
        if type(row.get(key)) not in (int, NoneType):
            raise EvidenceError(f"{path.name}: {key} is {row[key]!r}; expected a whole number")
    for key in ("run", "item", "phase", "outcome", "reason", "worker", "stage", "origin"):
        if type(row.get(key)) not in (str, NoneType):
            raise EvidenceError(f"{path.name}: {key} is {row[key]!r}; expected a text")
    for key in ("criteria", "flags"):
        if not all(isinstance(name, str) for name in row[key]):
            raise EvidenceError(f"{path.name}: {key} are {row[key]!r}; expected texts")
    return Attempt(**row)
