"""A ledger as text: what a writer may append, and what a reader makes of damage.

The last line may be torn: its writer died, the minute is lost, and the next writer begins on
a new line. Anything else that cannot be read makes the ledger untrustworthy.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from gates.ledger import (
    Header,
    LedgerError,
    Row,
    header_line,
    is_closed,
    parse_header,
    parse_row,
    row_line,
)

#: Where ledgers stand inside a report folder or a guard's state.
LEDGER_FOLDER: Final = "ledger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What a file holds. With a problem, nothing in it is believed."""

    header: Header
    rows: tuple[Row, ...] = ()
    problems: tuple[str, ...] = ()
    torn: bool = False  #: the last line was not whole; nothing else is wrong


def name_of(flag: str, epoch: int) -> str:
    """The file of a flag and epoch."""
    return f"{flag}-{epoch}.jsonl"


def text_of(header: Header, rows: Iterable[Row]) -> str:
    """A whole file."""
    return header_line(header) + "".join(map(row_line, rows))


def parse(text: str, name: str = "ledger") -> Ledger:
    """Read a file's text.

    Raises:
        LedgerError: no header; then nothing is known of what was measured.
    """
    *lines, rest = text.split("\n")
    if not lines:
        raise LedgerError(f"{name}:1: not a ledger's header: the line is not whole")
    try:
        header = parse_header(lines[0])
    except LedgerError as error:
        raise LedgerError(f"{name}:1: {error}") from error
    rows: list[Row] = []
    problems: list[str] = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            rows.append(parse_row(line, header))
        except LedgerError as error:
            problems.append(f"{name}:{number}: {error}")
    return Ledger(header=header, rows=tuple(rows), problems=tuple(problems), torn=bool(rest))


def read(path: Path) -> Ledger:
    """Read a file.

    Raises:
        LedgerError: it cannot be read, or it has no header.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerError(f"{path}: {error}") from error
    return parse(text, path.name)


def begun(path: Path) -> bool:
    """Whether a file is there and has its first line; whoever began it may have got no further."""
    try:
        with path.open("rb") as file:
            return file.readline().endswith(b"\n")
    except FileNotFoundError:
        return False


def mend(text: str) -> str:
    """A file's text up to its last whole line: what the next writer continues."""
    return text[: text.rfind("\n") + 1]


def appendable(rows: Iterable[Row], last: int | None, now: datetime) -> Iterator[Row]:
    """The rows that may be appended behind a last minute: closed ones, each later than the former.

    A clock that went back brings minutes that are there already; they are not written again.
    """
    for row in rows:
        if is_closed(row.minute, now) and (last is None or row.minute > last):
            last = row.minute
            yield row
