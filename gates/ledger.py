"""The ledger of live traffic: one file for each flag and epoch, one line for each UTC minute.

`ledger/FLAG-EPOCH.jsonl`: a header with what was measured and how, then a row for each minute
that is over. A row holds counts, never rates, so that minutes add; and no key or text of a
request: only digests of the busiest keys. The file is only appended to. When it was read is
nowhere in it: whoever folds the same rows reaches the same verdict.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from engine.core.flags import FLAGS
from gates.evidence import EvidenceError
from gates.stages import STAGES

LEDGER_SCHEMA: Final = "phase5.ledger/1"

#: Seconds after its end at which a minute is closed: six scrapes of 15 s may come late.
CLOSED_AFTER: Final = 90

TREATMENT: Final = "treatment"
CONTROL: Final = "control"


class LedgerError(EvidenceError):
    """What stands in the file is no ledger; the message says where and why."""


class Unit(StrEnum):
    """What is assigned to an arm."""

    KEY = "key"  #: a client or conversation: both arms run side by side
    BLOCK = "block"  #: 300 s of one engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What all rows of a file share; a row that was measured otherwise is invalid."""

    flag: str
    epoch: int
    stage: str
    share: float  #: of the traffic, that is configured for the treatment
    unit: Unit
    commit: str  #: of the engines' build
    config_sha256: str  #: of their configuration without rollout state
    ttft_edges: tuple[float, ...]  #: upper edges of the buckets, seconds, without +Inf
    latency_edges: tuple[float, ...]
    schema: str = LEDGER_SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """One arm (of one engine, where blocks are assigned) in one minute.

    `ttft` also counts requests that waited for a first token and got none, by their wait.
    `busiest`, `new_keys` and `bad_squares` may be missing where the engine does not tell: then
    every request counts as a key of its own.
    """

    arm: str
    engine: str = ""
    ok: int = 0
    failed: int = 0
    cut: int = 0
    shed: int = 0
    rejected: int = 0
    cancelled: int = 0
    early: int = 0  #: of the cancelled: those before the first token
    ttft: tuple[int, ...] = ()
    latency: tuple[int, ...] = ()
    busiest: Mapping[str, int] = field(default_factory=dict)  #: requests of a few keys, by digest
    new_keys: int | None = None  #: keys that were not seen in this epoch before
    bad_squares: int | None = None  #: sum over keys of their failed and cut squared

    @property
    def n(self) -> int:
        """Requests that count towards the error rate."""
        return self.ok + self.failed + self.cut

    @property
    def bad(self) -> int:
        """Failed and cut."""
        return self.failed + self.cut

    @property
    def ended(self) -> int:
        """Requests of whatever end."""
        return self.n + self.shed + self.rejected + self.cancelled

    @property
    def assigned(self) -> int:
        """What was assigned: keys where they are told, for one may send many requests."""
        return self.ended if self.new_keys is None else self.new_keys

    @property
    def keyed(self) -> float:
        """The bad ones over their design effect by key.

        Keys are what is assigned to an arm, so ten errors of one key are one draw. The effective
        number of draws is the square of the sum over the sum of squares (Kish, 1965).
        """
        if not self.bad or self.bad_squares is None:
            return float(self.bad)
        return self.bad * min(1.0, self.bad / max(self.bad_squares, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One minute of one flag."""

    minute: int  #: since 1970, UTC
    counts: tuple[Counts, ...] = ()
    engines: tuple[str, ...] = ()
    commit: str = ""
    config_sha256: str = ""
    crashes: Mapping[str, int] = field(default_factory=dict)  #: unplanned restarts and stalls
    invalid: str = ""  #: why the minute shows nothing; empty when it is valid
    paused: str = ""  #: why it does not count towards the soak; what it shows is judged even so
    cells: Mapping[str, tuple[int, int, int, int]] = field(default_factory=dict)
    """For each flag set: n, bad, first tokens, those over the limit. For attribution."""


def minute_of(when: datetime) -> int:
    """The minute in which a moment lies."""
    return int(when.timestamp() // 60)


def is_closed(minute: int, now: datetime) -> bool:
    """Whether a minute may be written: what belongs to it has arrived."""
    return now.timestamp() >= (minute + 1) * 60 + CLOSED_AFTER


def header_line(header: Header) -> str:
    """The first line of a file."""
    return _line(asdict(header))


def row_line(row: Row) -> str:
    """One minute as a line; zeros and what is not known are left out."""
    body = {name: value for name, value in _fields(row).items() if value}
    stamp = datetime.fromtimestamp(row.minute * 60, UTC).strftime(_STAMP)
    counts = [_sparse(counts) for counts in row.counts]
    return _line({**body, "minute": stamp, "counts": counts})


def parse_header(line: str) -> Header:
    """The first line read back.

    Raises:
        LedgerError: it is no header of this schema.
    """
    try:
        body = _object(line)
        edges = {name: tuple(body[name]) for name in ("ttft_edges", "latency_edges")}
        header = Header(**{**body, **edges, "unit": Unit(body["unit"])})
    except (ValueError, TypeError, KeyError) as error:
        raise LedgerError(f"not a ledger's header: {error}") from error
    _check_header(header)
    return header


def parse_row(line: str, header: Header) -> Row:
    """One line read back.

    Raises:
        LedgerError: it is no row; the message names the field.
    """
    try:
        body = _object(line)
        stamp = datetime.strptime(body.pop("minute"), _STAMP).replace(tzinfo=UTC)
        counts = tuple(_counts(given) for given in body.pop("counts"))
        body["engines"] = tuple(body.get("engines", ()))
        cells = {name: tuple(cell) for name, cell in body.pop("cells", {}).items()}
        row = Row(**body, minute=minute_of(stamp), counts=counts, cells=cells)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LedgerError(f"not a ledger's row: {error}") from error
    _check_row(row, header)
    return row


_STAMP: Final = "%Y-%m-%dT%H:%MZ"

#: Fields of `Counts` that are numbers of requests.
_MAY_BE_UNKNOWN: Final = ("new_keys", "bad_squares")
_NUMBERS: Final = ("ok", "failed", "cut", "shed", "rejected", "cancelled", "early")


def _line(body: Mapping[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n"


def _sparse(counts: Counts) -> dict[str, Any]:
    """What is zero goes without saying, unless it could also be unknown."""
    return {
        name: value
        for name, value in _fields(counts).items()
        if value or (value is not None and name in _MAY_BE_UNKNOWN)
    }


def _fields(record: Counts | Row) -> dict[str, Any]:
    """Unlike `dataclasses.asdict`, without copies: a row is written, or hashed, every minute."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _object(line: str) -> dict[str, Any]:
    body = json.loads(line)
    if not isinstance(body, dict):
        raise TypeError(f"expected an object, given {type(body).__name__}")
    return body


def _counts(given: dict[str, Any]) -> Counts:
    lists = {name: tuple(given.get(name, ())) for name in ("ttft", "latency")}
    return Counts(**{**given, **lists})


def _check_header(header: Header) -> None:
    if header.schema != LEDGER_SCHEMA:
        raise LedgerError(f"schema {header.schema!r}; allowed: {LEDGER_SCHEMA!r}")
    if header.flag not in FLAGS:
        raise LedgerError(f"flag {header.flag!r}; allowed: {', '.join(FLAGS)}")
    if header.stage not in STAGES[1:]:
        raise LedgerError(f"stage {header.stage!r}; allowed: {', '.join(STAGES[1:])}")
    if not 0 < header.share <= 1:
        raise LedgerError(f"share {header.share!r}; allowed: over 0, at most 1")
    for name in ("ttft_edges", "latency_edges"):
        edges = getattr(header, name)
        if not edges or not all(_number(e) for e in edges) or list(edges) != sorted(set(edges)):
            raise LedgerError(f"{name} must be numbers that rise")


def _check_row(row: Row, header: Header) -> None:
    buckets = {"ttft": len(header.ttft_edges) + 1, "latency": len(header.latency_edges) + 1}
    for counts in row.counts:
        if counts.arm not in (TREATMENT, CONTROL):
            raise LedgerError(f"arm {counts.arm!r}; allowed: {TREATMENT}, {CONTROL}")
        if bool(counts.engine) != (header.unit is Unit.BLOCK):
            raise LedgerError(f"unit {header.unit.value!r} with engine {counts.engine!r}")
        _check_counts([getattr(counts, name) for name in _NUMBERS], "a number of requests")
        _check_counts([*counts.busiest.values()], "busiest")
        known = (counts.new_keys, counts.bad_squares)
        _check_counts([value for value in known if value is not None], "keys")
        for name, size in buckets.items():
            given = getattr(counts, name)
            _check_counts(given, name)
            if given and len(given) != size:
                raise LedgerError(f"{name} has {len(given)} buckets; its edges make {size}")
    if len({(counts.arm, counts.engine) for counts in row.counts}) < len(row.counts):
        raise LedgerError("an arm is there twice")
    _check_counts([*row.crashes.values()], "crashes")
    for cell in row.cells.values():
        _check_counts(cell, "cells")
        if len(cell) != len(("n", "bad", "first", "over")):
            raise LedgerError(f"a cell has {len(cell)} numbers; allowed: 4")


def _check_counts(values: Sequence[Any], name: str) -> None:
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise LedgerError(f"{name}: {value!r}; allowed: a whole number from 0")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
