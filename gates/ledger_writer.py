"""Closed minutes appended to a ledger's file: durable, and whole after any crash.

The file itself is the cursor: what stands in it is done, and the next minute is the one behind
its last. A last line that is not whole was never written; it is cut off before the next one.
"""

import fcntl
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

from gates.durable import sync, sync_folder
from gates.ledger import Header, LedgerError, Row, header_line, row_line
from gates.ledger_file import appendable, mend, name_of, parse

_MODE: Final = 0o644


class LedgerWriter:
    """Owns one file while it is open; a second writer of the same file is refused.

    Args:
        folder: of the ledgers; made when it is not there.
        header: of the ledger; a file that is there has the same.

    Raises:
        LedgerError: another writer has the file, its header is another one, or it is damaged.
        OSError: it cannot be written.
    """

    def __init__(self, folder: Path, header: Header) -> None:
        self._path = folder / name_of(header.flag, header.epoch)
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            self._take()
            self._last = self._begin(header)
        except BaseException:
            self.close()
            raise

    @property
    def last(self) -> int | None:
        """The last minute that is written; None for none."""
        return self._last

    def append(self, rows: Iterable[Row], now: datetime) -> int:
        """Append closed minutes that are later than the last; how many there were.

        Raises:
            OSError: they could not be written. The file is as before.
        """
        fresh = list(appendable(rows, self._last, now))
        if fresh:
            self._write("".join(map(row_line, fresh)))
            self._last = fresh[-1].minute
        return len(fresh)

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _take(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LedgerError(f"{self._path}: another process writes it") from None

    def _begin(self, header: Header) -> int | None:
        """Bring the file to whole lines, with a header; its last minute."""
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        self._size = len(whole)
        if len(whole) < len(content):
            os.ftruncate(self._file, self._size)
            sync(self._file)
        if not whole:
            self._write(header_line(header))
            sync_folder(self._path.parent)  # a new name is kept only by its folder
            return None
        return self._last_of(whole, header)

    def _last_of(self, whole: bytes, header: Header) -> int | None:
        ledger = parse(mend(whole.decode(errors="replace")), self._path.name)
        if ledger.problems:
            raise LedgerError(f"{self._path}: damaged: {ledger.problems[0]}")
        if ledger.header != header:
            raise LedgerError(f"{self._path}: it is of {ledger.header}, not of {header}")
        return ledger.rows[-1].minute if ledger.rows else None

    def _write(self, text: str) -> None:
        """Write behind the end, and let nothing stand when that fails."""
        content = text.encode()
        try:
            written = 0
            while written < len(content):
                written += os.pwrite(self._file, content[written:], self._size + written)
            sync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(content)
