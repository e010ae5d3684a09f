"""A store in a branch of a Git repository.

There is no working tree: configuration and history are read from a commit, and a change is a new
commit on it that is pushed without force. So a push that others overtook is refused by the remote,
and a process that dies leaves nothing half done. The bare clone is a cache beside the
configuration.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from engine.config import ConfigError, parse_config
from gates.durable import LockHeldError, locked
from gates.git import FIRST_SECONDS, SECONDS, GitError, Repository, redacted
from gates.history import HISTORY_FILE, History, Record
from gates.stages import Policy
from gates.standing import Standing
from gates.state_file import Changed, Texts, changed, history_of, shares_of, snapshot_of
from gates.store import ConflictError, LockedError, Snapshot, StoreError

#: The store's file in the repository.
CONFIG_FILE: Final = "config/runtime.yaml"

#: Where the branch stood when it was fetched last.
_TIP: Final = "refs/phase5/tip"

#: Where it stood before somebody rewrote it; while that is not part of it, its history is in doubt.
_LOST: Final = "refs/phase5/lost"

#: The modes of a link, and of a file that was not there before.
_LINK: Final = "120000"
_FILE: Final = "100644"

#: How long to wait for another process that uses the clone: its slowest command, and a margin.
LOCK_SECONDS: Final = 2 * SECONDS


class GitStore:
    """The state in a branch. The snapshot's version is the commit."""

    def __init__(
        self,
        remote: str,
        branch: str,
        config: Path,
        policy: Policy,
        *,
        seconds: float = SECONDS,
        lock_seconds: float = LOCK_SECONDS,
    ) -> None:
        """Keep what is needed; nothing is fetched yet.

        Args:
            remote: an URL, or a path, relative to the folder of the configuration.
            branch: its name.
            config: the configuration in use; the clone stands in `CONFIG.state` beside it.
            policy: says what the stages' shares are.
            seconds: how long a command of Git may take.
            lock_seconds: how long to wait for another process that uses the clone.

        Raises:
            StoreError: a remote or branch that Git would take for an option.
        """
        self.where = f"git:{redacted(remote)}#{branch}"
        if remote.startswith("-") or branch.startswith("-"):
            raise StoreError(f"{self.where}: neither remote nor branch begins with '-'")
        self._remote = remote if ":" in remote else str((config.parent / remote).resolve())
        self._branch = f"refs/heads/{branch}"
        self._shares = shares_of(policy)
        self._seconds = seconds
        self._lock_seconds = lock_seconds
        folder = config.with_name(f"{config.name}.state")
        self._lock = folder / "store.lock"
        self._git = Repository(folder / "store.git")

    def read(self) -> Snapshot:
        """See `Store.read`. Asks the remote."""
        with self._repository():
            return snapshot_of(self._texts(self._fetched()), self._shares)

    def write(self, before: Snapshot, after: Mapping[str, Standing], record: Record) -> Snapshot:
        """See `Store.write`. Configuration and history change by one commit."""
        if not after:
            return before
        with self._repository():
            texts = self._texts(before.version)
            new = changed(texts, before, after, record, self._shares)
            commit = self._committed(before.version, new)
            self._push(commit, before)
            return replace(new.snapshot, version=commit)

    def history(self) -> History:
        """See `Store.history`. Asks the remote.

        Raises:
            StoreError: the branch's file cannot be read as a history.
        """
        with self._repository():
            texts = self._texts(self._fetched())
        try:
            return history_of(texts, parse_config(texts.config, Path(texts.name)))
        except ConfigError as error:
            raise StoreError(f"{self.where}: not valid: {error}") from error

    @contextmanager
    def _repository(self) -> Iterator[None]:
        """The clone to ourselves: commands of two processes would disturb each other."""
        try:
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            with locked(self._lock, self._lock_seconds):
                self._git.prepare()
                yield
        except LockHeldError as error:
            raise LockedError(str(error)) from error
        except GitError as error:
            raise StoreError(f"{self.where}: {error}") from error
        except OSError as error:
            raise StoreError(f"{error.filename}: {error.strerror}") from error

    def _fetched(self) -> str:
        """The commit at which the branch stands now."""
        seen = self._notes().get(_TIP)
        # The plus only moves our own note of the branch, also when somebody has rewritten it.
        self._git.run(
            *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head"),
            *(self._remote, f"+{self._branch}:{_TIP}"),
            seconds=self._seconds if seen else FIRST_SECONDS,
        )
        tip = self._notes()[_TIP]
        if seen and tip != seen and not self._contains(tip, seen):
            self._git.run("update-ref", _LOST, seen)
        return tip

    def _notes(self) -> dict[str, str]:
        """The commits that we have noted, by the names of the notes."""
        lines = self._git.run("for-each-ref", "--format=%(refname) %(objectname)", "refs/phase5")
        return dict(line.split() for line in lines.decode().splitlines())

    def _contains(self, commit: str, earlier: str) -> bool:
        return self._git.asks("merge-base", "--is-ancestor", earlier, commit)

    def _texts(self, commit: str) -> Texts:
        config, history = self._git.blobs(f"{commit}:{CONFIG_FILE}", f"{commit}:{HISTORY_FILE}")
        if config is None:
            raise StoreError(f"{self.where}: {CONFIG_FILE} is not there")
        try:
            return Texts(
                config=config.decode(),
                history=(history or b"").decode(errors="replace"),
                name=Path(CONFIG_FILE).name,
                where=self.where,
                version=commit,
                trouble=self._rewritten(commit),
            )
        except UnicodeDecodeError as error:
            raise StoreError(f"{self.where}: {CONFIG_FILE}: not UTF-8 text") from error

    def _rewritten(self, commit: str) -> str:
        """What tells that somebody rewrote the branch; empty when it only grew."""
        lost = self._notes().get(_LOST)
        if lost is None or self._contains(commit, lost):
            return ""
        return f"the branch was rewritten: commit {lost[:12]} is no longer part of it"

    def _committed(self, parent: str, new: Changed) -> str:
        """A commit with the new texts; nobody knows of it yet."""
        texts = {CONFIG_FILE: new.texts.config, HISTORY_FILE: new.texts.history}
        modes = self._modes(parent, *texts)
        entries = ""
        for path, text in texts.items():
            blob = self._git.line("hash-object", "-w", "--stdin", given=text.encode())
            entries += f"{modes.get(path, _FILE)} {blob}\t{path}\n"
        with tempfile.TemporaryDirectory(dir=self._lock.parent) as scratch:
            index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
            self._git.run("read-tree", parent, environment=index)
            self._git.run("update-index", "--index-info", given=entries.encode(), environment=index)
            tree = self._git.line("write-tree", environment=index)
        message = _message(new.record).encode()
        who = self._identity()
        return self._git.line("commit-tree", tree, "-p", parent, given=message, environment=who)

    def _modes(self, commit: str, *paths: str) -> dict[str, str]:
        """The modes of files, which stay."""
        lines = self._git.run("ls-tree", commit, *paths).decode().splitlines()
        entries = (line.split(maxsplit=3) for line in lines)
        return {path: mode for mode, kind, _, path in entries if kind == "blob" and mode != _LINK}

    def _identity(self) -> dict[str, str]:
        """Whose commit it is, where neither Git's configuration nor the environment tells."""
        known = self._git.run("config", "--list", "--name-only").decode().split()
        fallback = {}
        for part, value in (("name", "phase5"), ("email", "phase5@localhost")):
            if f"user.{part}" not in known:
                for role in ("AUTHOR", "COMMITTER"):
                    variable = f"GIT_{role}_{part.upper()}"
                    fallback[variable] = os.environ.get(variable, value)
        return fallback

    def _push(self, commit: str, before: Snapshot) -> None:
        """Push, if the branch still stands where the change was decided on.

        Nothing is forced: our commit follows that one. The lease refuses the push also when the
        branch was put back to an earlier commit. Whatever the answer was, the branch tells what
        became of it.

        Raises:
            ConflictError: others were faster.
            StoreError: it was refused, or nobody can tell what became of it.
        """
        try:
            lease = f"--force-with-lease={self._branch}:{before.version}"
            refs = f"{commit}:{self._branch}"
            self._git.run("push", "--quiet", lease, self._remote, refs, seconds=self._seconds)
            self._git.run("update-ref", _TIP, commit)
        except GitError as refused:
            self._ask(commit, before, refused)

    def _ask(self, commit: str, before: Snapshot, refused: GitError) -> None:
        try:
            tip = self._fetched()
        except GitError as error:
            raise StoreError(
                f"{self.where}: {refused}; then {error}: it is not known whether the change arrived"
            ) from refused
        if self._contains(tip, commit):
            return
        if tip == before.version:
            late = "; it may still arrive" if refused.status is None else ""
            raise StoreError(f"{self.where}: {refused}{late}") from refused
        found = snapshot_of(self._texts(tip), self._shares).generation
        raise ConflictError(
            f"{self.where}: decided on generation {before.generation}, found generation {found}"
        ) from refused


def _message(record: Record) -> str:
    moves = (f"{name}: {change.origin} -> {change.target}" for name, change in record.flags.items())
    subject = f"{record.event.capitalize()} {', '.join(record.flags)}"
    told = filter(None, [*moves, f"Reason: {record.reason}", f"By: {record.who}"])
    return "\n".join([subject, "", *told, ""])
