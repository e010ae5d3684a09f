"""Evidence on disk: what was measured, with where it came from; and what each test did.

A measurement is one file of JSON lines in `evidence/`: a header (provenance), its rows, and
a footer with the row count and digest. A file without its footer is torn and is invalid; a
file that appears twice is invalid. A test never decides anything: it writes here, and the
judge reads.
"""

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from gates.journal import ChaosVerdict, Journal, journal_from_row, journal_row
from gates.samples import Outcome, Sample, from_row, to_row
from gates.traffic import Brought, Flow, Running, Traffic
from gates.usage import Usage, usage_from_row, usage_row

#: With what is evidence wherever it lives: chaos imports from here.
__all__ = [
    "ATTEMPTS_FILE",
    "CHAOS_ITEM",
    "EVIDENCE_DIR",
    "EVIDENCE_SCHEMA",
    "FOOTER_SCHEMA",
    "LOAD_ITEM",
    "REPORT_ITEM",
    "VERDICT_FILE",
    "Brought",
    "ChaosVerdict",
    "Check",
    "EngineIdentity",
    "EvidenceError",
    "Flow",
    "Journal",
    "Measurement",
    "Outcome",
    "Running",
    "Sample",
    "Traffic",
    "read_measurement",
    "write_measurement",
]

EVIDENCE_SCHEMA: Final = "phase5.evidence/1"
FOOTER_SCHEMA: Final = "phase5.evidence.end/1"
EVIDENCE_DIR: Final = "evidence"
ATTEMPTS_FILE: Final = "attempts.jsonl"
VERDICT_FILE: Final = "verdict.json"

#: How the items of load runs, chaos runs and of other programs' reports are named.
LOAD_ITEM: Final = "load::"
CHAOS_ITEM: Final = "chaos::"
REPORT_ITEM: Final = "junit::"


#: What reading a file of the wrong form can raise.
_MALFORMED: Final = (
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
)


class EvidenceError(ValueError):
    """A file that cannot serve as evidence. The message names the file and what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineIdentity:
    """Which engine answered: the provenance that a verdict binds to."""

    flag_set: str
    model: str
    model_sha256: str
    engine_version: str
    commit: str
    config_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One demand that holds or does not: `no orphan process`, `registry empty`."""

    name: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one attempt of one test brought.

    `arms` maps `treatment` and, in a comparison, `control` to the engine that served it.
    `criteria` are the ids that the test declared. `valid` is false, with a reason, when the
    generator could not keep up or the run was cut short. `time_scale` is the share of its
    full length that a load profile ran for. `commit` is the build that a report of another
    program is about, which has no engine to say so; files of our own have none.
    """

    run: str
    item: str
    attempt: int
    criteria: tuple[str, ...]
    arms: Mapping[str, EngineIdentity]
    machine: str
    created: str  #: UTC, ISO 8601
    samples: tuple[Sample, ...] = ()
    checks: tuple[Check, ...] = ()
    usage: tuple[Usage, ...] = ()
    journals: tuple[Journal, ...] = ()
    valid: bool = True
    invalid_reason: str = ""
    workers: int = 1  #: pytest workers on this machine; timing needs exactly one
    profile: str = ""  #: the load profile, where one ran
    time_scale: float = 1.0
    commit: str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


def write_measurement(folder: Path, measurement: Measurement) -> Path:
    """Write one evidence file and return its path. A reader never sees half of it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps({"sample": to_row(s)}, separators=(",", ":")) for s in measurement.samples]
    rows += [json.dumps({"check": asdict(c)}, separators=(",", ":")) for c in measurement.checks]
    rows += [json.dumps({"usage": usage_row(u)}, separators=(",", ":")) for u in measurement.usage]
    rows += [json.dumps({"journal": journal_row(j)}) for j in measurement.journals]
    footer = {
        "schema": FOOTER_SCHEMA,
        "id": measurement.id,
        "rows": len(rows),
        "sha256": _digest(rows),
    }
    lines = [json.dumps(_header(measurement)), *rows, json.dumps(footer)]
    path = folder / f"{measurement.id}.jsonl"
    partial = path.with_suffix(".partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.rename(path)
    return path


def read_measurement(path: Path) -> Measurement:
    """Read one evidence file.

    Raises:
        EvidenceError: when it is torn, altered, of another schema, or not readable.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        header, footer = json.loads(lines[0]), json.loads(lines[-1])
        rows = lines[1:-1]
        _check_frame(path, header, footer, rows)
        return _from_parts(header, [json.loads(row) for row in rows])
    except EvidenceError:
        raise
    except OSError as error:  # without its path: the same folder elsewhere reads the same
        raise EvidenceError(f"{path.name}: not readable: {error.strerror}") from error
    except _MALFORMED as error:
        raise EvidenceError(f"{path.name}: not readable as evidence: {error}") from error


def _digest(rows: Iterable[str]) -> str:
    return sha256("\n".join(rows).encode()).hexdigest()


def _header(measurement: Measurement) -> dict[str, Any]:
    return {
        "schema": EVIDENCE_SCHEMA,
        "id": measurement.id,
        "run": measurement.run,
        "item": measurement.item,
        "attempt": measurement.attempt,
        "criteria": list(measurement.criteria),
        "arms": {arm: asdict(engine) for arm, engine in measurement.arms.items()},
        "machine": measurement.machine,
        "created": measurement.created,
        "valid": measurement.valid,
        "invalid_reason": measurement.invalid_reason,
        "workers": measurement.workers,
        "profile": measurement.profile,
        "time_scale": measurement.time_scale,
    }


def _check_frame(path: Path, header: Any, footer: Any, rows: list[str]) -> None:
    if header.get("schema") != EVIDENCE_SCHEMA:
        raise EvidenceError(
            f"{path.name}: schema {header.get('schema')!r}; allowed: {EVIDENCE_SCHEMA!r}"
        )
    if footer.get("schema") != FOOTER_SCHEMA or footer.get("id") != header.get("id"):
        raise EvidenceError(f"{path.name}: torn: the last line is not its footer")
    if footer.get("rows") != len(rows):
        raise EvidenceError(f"{path.name}: {len(rows)} rows, the footer says {footer.get('rows')}")
    if footer.get("sha256") != _digest(rows):
        raise EvidenceError(f"{path.name}: rows were altered: the digest differs")


#: Rows that are no samples.
_OTHERS: Final = frozenset({"check", "usage", "journal"})

#: Exact types: `"false"` is no boolean, and a yes that is none would pass for one.
_HEADER_TYPES: Final[Mapping[str, type]] = {
    **dict.fromkeys(("id", "run", "item", "machine", "created", "invalid_reason", "profile"), str),
    **dict.fromkeys(("attempt", "workers"), int),
    "time_scale": float,
    "criteria": list,
    "arms": dict,
    "valid": bool,
}


def _from_parts(header: dict[str, Any], rows: list[dict[str, Any]]) -> Measurement:
    _check_header(header)
    return Measurement(
        id=header["id"],
        run=header["run"],
        item=header["item"],
        attempt=header["attempt"],
        criteria=tuple(header["criteria"]),
        arms={arm: _engine(engine) for arm, engine in header["arms"].items()},
        machine=header["machine"],
        created=header["created"],
        valid=header["valid"],
        invalid_reason=header["invalid_reason"],
        workers=header["workers"],
        profile=header["profile"],
        time_scale=header["time_scale"],
        samples=tuple(from_row(row["sample"]) for row in rows if not _OTHERS & row.keys()),
        checks=tuple(_check(row["check"]) for row in rows if "check" in row),
        usage=tuple(usage_from_row(row["usage"]) for row in rows if "usage" in row),
        journals=tuple(journal_from_row(row["journal"]) for row in rows if "journal" in row),
    )


def _engine(row: dict[str, Any]) -> EngineIdentity:
    for name, value in row.items():
        if not isinstance(value, str):
            raise TypeError(f"{name} of an engine is {value!r}; expected str")
    return EngineIdentity(**row)


def _check(row: dict[str, Any]) -> Check:
    for name, wanted in (("name", str), ("ok", bool), ("detail", str)):
        if not isinstance(row.get(name, ""), wanted):
            raise TypeError(f"{name} of a check is {row[name]!r}; expected {wanted.__name__}")
    return Check(**row)


def _check_header(header: dict[str, Any]) -> None:
    for name, allowed in _HEADER_TYPES.items():
        if type(header[name]) is not allowed:
            raise TypeError(f"{name} is {header[name]!r}; expected {allowed.__name__}")
    for name in header["criteria"]:
        if not isinstance(name, str):
            raise TypeError(f"a criterion is {name!r}; expected str")
