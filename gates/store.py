"""Where the rollout's state is kept: what every store does, and how one is opened.

There is one store; every other copy is a replica. A change is a compare-and-swap: it names the
snapshot that it was decided on, and is refused when somebody else wrote since.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine.config import Config, ConfigError, load_config
from gates.history import History, Record
from gates.policy import policy_beside
from gates.stages import Policy
from gates.standing import Standing


class StoreError(RuntimeError):
    """A store that cannot be read or written. The message says where and why."""


class ConflictError(StoreError):
    """Another one wrote in between. The message names both generations."""


class LockedError(StoreError):
    """Another process holds the store's lock. The message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A store at one moment.

    Attributes:
        generation: number of all changes.
        flags: where every flag stands.
        config: the whole configuration, as the engines read it.
        text: what the file holds.
        where: for messages: the file, or remote and branch.
        version: the commit, with Git.
        unrecorded: after a write that the history could not take: why.
    """

    generation: int
    flags: Mapping[str, Standing]
    config: Config
    text: str
    where: str
    version: str = ""
    unrecorded: str = ""


class Store(Protocol):
    """One place of the rollout's state."""

    where: str

    def read(self) -> Snapshot:
        """The state as it is now.

        Raises:
            StoreError: unreadable, or not valid.
        """

    def write(self, before: Snapshot, after: Mapping[str, Standing], record: Record) -> Snapshot:
        """Put `after` in the place of the same flags of `before`: wholly, or not at all.

        The generation rises by one, and the change is recorded. Flags that are not named stay.

        Raises:
            ConflictError: another one wrote since `before` was read.
            LockedError: another process is writing, and does not come to an end.
            StoreError: it cannot be written. Nothing changed, unless the message says otherwise.
        """

    def history(self) -> History:
        """What was recorded, verified. Damage is told in it, never raised.

        Raises:
            StoreError: the store itself cannot be read.
        """


#: What to do to a snapshot: the flags that change, and what to record of it. No flags: nothing.
Decide = Callable[[Snapshot], tuple[Mapping[str, Standing], Record]]


def insist(store: Store, decide: Decide, *, attempts: int = 10) -> Snapshot:
    """Change a store though others write too: decide anew on what they wrote, and try again.

    For rollbacks: a promotion is decided once, on what its verdict saw.

    Raises:
        ConflictError: others were faster each time.
        StoreError: it cannot be read or written.
    """
    for _ in range(attempts - 1):
        with suppress(ConflictError):
            return _change(store, decide)
    return _change(store, decide)


def _change(store: Store, decide: Decide) -> Snapshot:
    before = store.read()
    after, record = decide(before)
    return store.write(before, after, record)


def open_store(config: Path, policy: Policy | None = None) -> Store:
    """The store that a configuration names in `rollout.store`; without one, the file itself.

    Args:
        config: the configuration file in use.
        policy: says what the stages' shares are; without it, the `gates.yaml` that belongs to
            the configuration.

    Raises:
        StoreError: the configuration cannot be read, or names no store.
    """
    from gates.file_store import FileStore
    from gates.git_store import GitStore

    try:
        policy = policy or policy_beside(config)
        name = load_config(config).rollout.store
        if name is None:
            return FileStore(config, policy)
        kind, _, place = name.partition(":")
        if kind == "file" and place:
            return FileStore(config.parent / place, policy)
        remote, _, branch = place.rpartition("#")
        if kind == "git" and remote and branch:
            return GitStore(remote, branch, config, policy)
    except ConfigError as error:
        raise StoreError(f"{config}: names no store: {error}") from error
    raise StoreError(
        f"{config}: rollout.store: given {name!r}; allowed: file:PATH, git:REMOTE#BRANCH, null"
    )
