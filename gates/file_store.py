"""A store in a configuration file, with its history in the folder `rollout` beside it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from engine.config import ConfigError, parse_config
from gates.durable import LockHeldError, append_to_file, locked, replace_file, why
from gates.history import HISTORY_FILE, History, Record
from gates.stages import Event, Policy
from gates.standing import Standing
from gates.state_file import Texts, changed, history_of, shares_of, snapshot_of
from gates.store import ConflictError, LockedError, Snapshot, StoreError

#: Taken by whoever writes, in the folder of the history. Readers need none.
LOCK_FILE: Final = "rollout/lock"

#: How long to wait for another writer. A write is two syncs to disk, far under a second.
LOCK_SECONDS: Final = 5.0

#: How often a history is read again because the configuration changed meanwhile.
_READINGS: Final = 10


class FileStore:
    """The state in one file. Every path that leads to the file by links is the same store."""

    def __init__(self, path: Path, policy: Policy, *, lock_seconds: float = LOCK_SECONDS) -> None:
        self.where = f"file:{path}"
        self._path = path
        self._shares = shares_of(policy)
        self._lock_seconds = lock_seconds

    def read(self) -> Snapshot:
        """See `Store.read`."""
        return snapshot_of(self._texts(), self._shares)

    def write(self, before: Snapshot, after: Mapping[str, Standing], record: Record) -> Snapshot:
        """See `Store.write`. The history gets its line first, then the file is replaced.

        Raises:
            ConflictError: the store is not as it was decided on.
        """
        if not after:
            return before
        with self._locked():
            texts = self._texts()
            if texts.config != before.text:
                raise ConflictError(self._conflict(texts, before))
            return self._written(texts, before, after, record)

    def history(self) -> History:
        """See `Store.history`.

        Raises:
            StoreError: the file cannot be read as a history.
        """
        texts = self._texts()
        try:
            return history_of(texts, parse_config(texts.config, self._path))
        except ConfigError as error:
            raise StoreError(f"{self.where}: not valid: {error}") from error

    def _written(
        self, texts: Texts, before: Snapshot, after: Mapping[str, Standing], record: Record
    ) -> Snapshot:
        new = changed(texts, before, after, record, self._shares)
        unrecorded = self._append(new.line)
        if unrecorded:
            if record.event != Event.ROLLBACK:
                raise StoreError(unrecorded)
            new = changed(texts, before, after, record, self._shares, recorded=False)
        try:
            replace_file(self._real, new.texts.config.encode())
        except OSError as error:
            raise StoreError(f"{self._real}: cannot be written: {why(error)}") from error
        return replace(new.snapshot, unrecorded=unrecorded)

    def _append(self, line: str) -> str:
        """Why the history could not take a line; empty when it has."""
        try:
            append_to_file(self._history, line.encode())
        except OSError as error:
            return f"{self._history}: cannot be written: {why(error)}"
        return ""

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self._real.parent / LOCK_FILE
        try:
            with locked(lock, self._lock_seconds):
                yield
        except LockHeldError as error:
            raise LockedError(str(error)) from error
        except OSError as error:
            raise StoreError(f"{lock}: cannot be locked: {why(error)}") from error

    def _texts(self) -> Texts:
        """Configuration and history of one moment: writers change the history first."""
        for _ in range(_READINGS):
            config, (history, trouble) = _text(self._real), self._history_text()
            if _text(self._real) == config:
                return Texts(config, history, self._real.name, self.where, trouble=trouble)
        raise StoreError(f"{self.where}: changed {_READINGS} times while it was read")

    def _history_text(self) -> tuple[str, str]:
        """What the history holds, and why it cannot be read. A new store has none."""
        try:
            return self._history.read_bytes().decode(errors="replace"), ""
        except FileNotFoundError:
            return "", ""
        except OSError as error:
            return "", f"{self._history}: cannot be read: {error.strerror}"

    def _conflict(self, texts: Texts, before: Snapshot) -> str:
        try:
            found = f"generation {parse_config(texts.config, self._path).generation}"
        except ConfigError as error:
            found = f"no valid configuration ({error})"
        if found == f"generation {before.generation}":
            found += " with another text: it was edited by hand"
        return f"{self.where}: decided on generation {before.generation}, found {found}"

    @property
    def _real(self) -> Path:
        return self._path.resolve()

    @property
    def _history(self) -> Path:
        return self._real.parent / HISTORY_FILE


def _text(path: Path) -> str:
    """A file's text with its own line endings.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StoreError(f"{path}: cannot be read: not UTF-8 text") from error
