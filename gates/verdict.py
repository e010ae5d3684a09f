"""`verdict.json`: what was decided, for which build, on which evidence, and until when.

Canonical JSON: sorted keys, numbers to six digits, one line feed at the end; the same
evidence gives the same bytes. `gates/verdict.schema.json` describes it.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from engine.core.flags import FLAGS
from gates.criteria import Outcome
from gates.evidence import EvidenceError
from gates.stages import STAGES

VERDICT_SCHEMA: Final = "phase5.verdict/1"

#: How long a verdict may be acted on: the engines and the traffic change meanwhile.
LIFETIME: Final = timedelta(hours=1)

#: Digits that a number keeps: more would differ between platforms, fewer hide a change.
_DIGITS: Final = 6


class Decision(StrEnum):
    """What to do with a flag, worst first."""

    ROLLBACK = "rollback"
    HOLD = "hold"
    PROMOTE = "promote"


def worst_decision(decisions: Iterable[Decision]) -> Decision:
    """The worst of some decisions; of none it is `hold`, since nothing was shown."""
    order = tuple(Decision)
    return min(decisions, key=order.index, default=Decision.HOLD)


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionRow:
    """One criterion as it turned out: the numbers are those of its worst group."""

    id: str
    outcome: Outcome
    reason: str
    estimate: float | None = None
    interval: tuple[float | None, float | None] | None = None  #: an open end is None
    limit: float | None = None
    n: int = 0
    source: str = "tests"
    needs: int | None = None  #: further observations, about, to tell
    waived: bool = False
    stretch: Outcome | None = None  #: how the stretch goal turned out: reported, never required


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What was judged. A verdict is worth nothing for anything else."""

    commit: str
    config_sha256: str
    engine_version: str
    epochs: Mapping[str, int] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)  #: name to SHA-256
    policy_sha256: str = ""  #: filled in by the judge


@dataclass(frozen=True, slots=True, order=True)
class EvidenceFile:
    """One file that was read."""

    file: str
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The verdict of a gate.

    `transition` has `flags` (their names) and `each` (one `from` and `to` for every flag);
    its own `from` and `to` are None when the flags go through different doors.
    """

    verdict: Decision
    transition: Mapping[str, Any]
    criteria: tuple[CriterionRow, ...]
    flags: Mapping[str, Decision]
    subject: Subject
    evidence: tuple[EvidenceFile, ...]
    created: str
    expires: str
    environment: Mapping[str, str]
    dry_run: bool
    schema: str = VERDICT_SCHEMA


def to_json(verdict: Verdict) -> str:
    """The canonical text."""
    return json.dumps(document(verdict), sort_keys=True, indent=1, allow_nan=False) + "\n"


def document(verdict: Verdict) -> Any:
    """The verdict as JSON has it: plain objects and lists, numbers as they are stated."""
    return _plain(asdict(verdict))


def digest(text: str) -> str:
    """What a promotion names: SHA-256 of the canonical text."""
    return sha256(text.encode()).hexdigest()


def from_json(text: str, name: str = "verdict.json") -> Verdict:
    """Read a verdict back.

    Raises:
        EvidenceError: when it is not a verdict of this schema; `name` says which file.
    """
    try:
        parsed = json.loads(text)
        _check_keys(parsed)
        return _verdict(parsed)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EvidenceError(f"{name}: not a verdict: {error}") from error


def write_verdict(path: Path, verdict: Verdict) -> str:
    """Write it so that a reader never sees half of it; returns its digest.

    Raises:
        OSError: it cannot be written, and what stood there before stands; it names the file.
    """
    text = to_json(verdict)
    partial = path.with_suffix(".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    return digest(text)


def schema_path() -> Path:
    """The JSON Schema that is shipped with the package."""
    return Path(__file__).resolve().parent / "verdict.schema.json"


def rounded(number: float | None) -> float | None:
    """A number as the verdict states it: six digits, None for one that is not finite."""
    if number is None or not math.isfinite(number):
        return None
    return float(f"{number:.{_DIGITS}g}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, StrEnum):
        return value.value
    return rounded(value) if isinstance(value, float) else value


def _check_keys(parsed: Any) -> None:
    if not isinstance(parsed, dict):
        raise TypeError(f"expected an object, given {type(parsed).__name__}")
    if parsed.get("schema") != VERDICT_SCHEMA:
        raise ValueError(f"schema {parsed.get('schema')!r}; allowed: {VERDICT_SCHEMA!r}")
    expected = {item.name for item in fields(Verdict)}
    if parsed.keys() != expected:
        raise ValueError(f"keys that differ: {', '.join(sorted(parsed.keys() ^ expected))}")
    subject = parsed["subject"]
    for value in (parsed["environment"], subject["models"], subject["epochs"]):
        if not isinstance(value, dict):
            raise TypeError(f"expected an object, given {value!r}")
    for name in ("created", "expires"):
        if datetime.fromisoformat(parsed[name]).utcoffset() is None:
            raise ValueError(f"{name} {parsed[name]!r} has no zone")
    _check_steps(parsed["transition"]["each"])


def _check_steps(steps: dict[str, Any]) -> None:
    if not set(steps) <= set(FLAGS):
        raise ValueError(f"flags {', '.join(steps)}; allowed: {', '.join(FLAGS)}")
    for flag, step in steps.items():
        if step["from"] not in STAGES or step["to"] not in STAGES[1:]:
            raise ValueError(f"{flag} goes from {step['from']!r} to {step['to']!r}: no such step")


def _verdict(parsed: dict[str, Any]) -> Verdict:
    return Verdict(
        **{
            **parsed,
            "verdict": Decision(parsed["verdict"]),
            "criteria": tuple(_row(row) for row in parsed["criteria"]),
            "flags": {name: Decision(text) for name, text in parsed["flags"].items()},
            "subject": Subject(**parsed["subject"]),
            "evidence": tuple(EvidenceFile(**row) for row in parsed["evidence"]),
        }
    )


def _row(row: dict[str, Any]) -> CriterionRow:
    interval = None if row["interval"] is None else tuple(row["interval"])
    stretch = None if row["stretch"] is None else Outcome(row["stretch"])
    changed = {"outcome": Outcome(row["outcome"]), "interval": interval, "stretch": stretch}
    return CriterionRow(**{**row, **changed})
