"""What an engine's processes used while a load ran: one row for each part and reading.

Absent is null, never zero: a figure that this system cannot tell was not nothing.
"""

from dataclasses import asdict, dataclass
from types import NoneType
from typing import Any, Final

FRONT_END: Final = "front_end"
RUNTIME: Final = "runtime"  #: its processes together
ENGINE: Final = "engine"  #: what only the engine itself can tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One reading of one part of an engine; `requests` of the run had ended by then."""

    at: float  #: seconds on the generator's clock, from the start of its run
    part: str  #: `front_end`, `runtime` or `engine`
    requests: int
    processes: int | None = None
    cpu_seconds: float | None = None  #: used since the processes started
    rss_bytes: int | None = None
    threads: int | None = None
    descriptors: int | None = None
    connections: int | None = None  #: established ones of TCP
    kv_bytes: int | None = None
    prefix_bytes: int | None = None
    device_bytes: int | None = None  #: memory of a GPU, or Metal's share of unified memory


_COUNTS: Final = tuple(
    name for name in Usage.__slots__ if name not in {"at", "part", "requests", "cpu_seconds"}
)
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "at": (int, float),
    "part": (str,),
    "requests": (int,),
    "cpu_seconds": (int, float, NoneType),
    **dict.fromkeys(_COUNTS, (int, NoneType)),
}


def usage_row(usage: Usage) -> dict[str, Any]:
    """A reading as a JSON-able row."""
    return asdict(usage)


def usage_from_row(row: dict[str, Any]) -> Usage:
    """Read a row back.

    Raises:
        ValueError: for an unknown, missing or malformed field; it names the field.
    """
    bad = [name for name, allowed in _TYPES.items() if not _is(row.get(name), allowed)]
    if bad:
        raise ValueError(f"not a usage row: {bad[0]} is {row.get(bad[0])!r}")
    try:
        return Usage(**row)
    except TypeError as error:
        raise ValueError(f"not a usage row: {error}") from error


def _is(value: Any, allowed: tuple[type, ...]) -> bool:
    return isinstance(value, allowed) and not isinstance(value, bool)
