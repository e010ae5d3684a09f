"""Closed minutes appended to a ledger's file: durable, and whole after any crash.

The file itself is the cursor: what stands in it is done, and the next minute is the one behind
its last. A last line that is not whole was never written; it is cut off before the next one.
"""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from gates.ledger import Header, Row


class LedgerWriter:
    """Owns one file while it is open; a second writer of the same file is refused.

    Raises:
        LedgerError: another writer has it, its header is another one, or it is damaged.
    """

    def __init__(self, folder: Path, header: Header) -> None:
        raise NotImplementedError

    @property
    def last(self) -> int | None:
        """The last minute that is written; None for none."""
        raise NotImplementedError

    def append(self, rows: Iterable[Row], now: datetime) -> int:
        """Append closed minutes that are later than the last; how many there were."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the file."""
