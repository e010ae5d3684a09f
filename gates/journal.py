"""What a chaos experiment reports of itself: the part of its journal that a gate judges.

An experiment writes it as one row of an evidence file, beside the samples that its traffic
brought; the file's header says which engine, build and machine it was. Its own journal, with
its timeline and all else, is its own affair.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from types import NoneType
from typing import Any, Final


class ChaosVerdict(StrEnum):
    """What an experiment says of itself."""

    PASS = "pass"  # noqa: S105 - survived; not a password
    FAIL = "fail"  #: did not
    INCONCLUSIVE = "inconclusive"  #: ran, and cannot tell
    INVALID = "invalid"  #: the fault did not happen, or nothing was steady before it
    ABORTED = "aborted"  #: cut short


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """One run of an experiment.

    `requested` is the fault that was asked for, `read_back` what the injector says is in
    force, `measured` its effect as seen by measurement: three witnesses, none of which stands
    for another. `proven` is the experiment's word that the third bears out the first.
    """

    experiment: str
    steady_before: bool  #: the steady state was met before the fault
    steady_after: bool  #: and again after it
    proven: bool
    lost_streams: int
    verdict: ChaosVerdict
    recovery_seconds: float | None = None  #: from the end of the fault to steady service
    requested: Mapping[str, Any] = field(default_factory=dict)
    read_back: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


#: Exact types: a yes that is none would pass for one.
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    **dict.fromkeys(("experiment", "verdict"), (str,)),
    **dict.fromkeys(("steady_before", "steady_after", "proven"), (bool,)),
    "lost_streams": (int,),
    "recovery_seconds": (int, float, NoneType),
    **dict.fromkeys(("requested", "read_back", "measured"), (dict,)),
    "reasons": (list,),
}


def journal_row(journal: Journal) -> dict[str, Any]:
    """A journal as a JSON-able row."""
    return {**asdict(journal), "reasons": list(journal.reasons)}


def journal_from_row(row: dict[str, Any]) -> Journal:
    """Read a row back.

    Raises:
        ValueError: for an unknown, missing or malformed field; it names the field.
    """
    for name, allowed in _TYPES.items():
        if type(row.get(name)) not in allowed:
            raise ValueError(f"not a journal row: {name} is {row.get(name)!r}")
    try:
        verdict, reasons = ChaosVerdict(row["verdict"]), tuple(map(str, row["reasons"]))
        return Journal(**{**row, "verdict": verdict, "reasons": reasons})
    except TypeError as error:
        raise ValueError(f"not a journal row: {error}") from error
