"""What an engine remembers across restarts, in `CONFIGURATION-FILE.state/`.

```text
runtime.yaml.state/
  lock                       held while an engine looks for its place
  engine-0/                  one engine's place
    lock                     held while that engine lives; the kernel lets go of it at its end
    engine.json              id, last port, what of the rollout served, the lease
    brakes/FLAG.ID.json      a braked flag: that the file is there brakes, its content explains
  engine-1/ ...
```

**Who is who.** Several engines may serve one configuration file, on different ports, also on free
ones that change with each start. So an engine has a place, not a port, and claims one when it
starts: of those that no living engine holds the one that its port had last, else one with a
brake, else the first; else it makes a new one. Engines that are told apart by their ports keep
their places whatever the order of their starts. Of those that cannot be told apart the number of
braked ones stays what it was. A new place begins with the brakes of all others: who joins does not
begin with what was stopped there.

**What is doubtful brakes.** Where a brake's file is torn its name still tells flag and id. Where
`engine.json` cannot be read every flag is braked. Where the folder cannot be read or written at
all, the engine serves as if every flag were braked: it could not keep one.
"""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

from engine.core.brakes import Brake
from engine.server import durable
from engine.server.kept import Document, Kept, write_brake, write_document
from engine.server.places import FoundPlace, all_unknown, find_places, locked, try_lock


class StateError(Exception):
    """The folder cannot keep what it must. The message names the file and the reason."""

    @classmethod
    def at(cls, where: Path, error: OSError) -> Self:
        """Something could not be read or written."""
        # It is tried again until it works: see `remembering`.
        full = "; make room there" if error.errno in durable.NO_ROOM else ""
        return cls(f"{where}: {error.strerror or error}{full}")


class EngineState(Protocol):
    """An engine's memory: what it found, and where it writes. Its methods block.

    Attributes:
        id: of the engine, drawn once.
        kept: what the last process left; None before the first.
        brakes: those that it left, by flag.
        troubles: what could not be read, or why nothing can be kept.
    """

    id: str
    kept: Kept | None
    brakes: dict[str, Brake]
    troubles: list[str]

    def keep(self, kept: Kept, /) -> None:
        """Remember what serves; raises `StateError`."""

    def brake(self, flag: str, brake: Brake, /) -> None:
        """Remember a brake; raises `StateError`. Repeating it does no harm."""

    def lift(self, flag: str, brake: Brake, /) -> None:
        """Forget a brake; raises `StateError`. Repeating it does no harm."""

    def close(self) -> None:
        """Leave the place to others."""


class NoState:
    """The memory of an engine under `--flags`: it needs none."""

    def __init__(self, engine_id: str) -> None:
        self.id = engine_id
        self.kept: Kept | None = None
        self.brakes: dict[str, Brake] = {}
        self.troubles: list[str] = []

    def keep(self, kept: Kept) -> None:
        """Nothing is kept."""

    def brake(self, flag: str, brake: Brake) -> None:
        """Nothing is kept."""

    def lift(self, flag: str, brake: Brake) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is held."""


class LostState:
    """The memory of an engine whose folder cannot be used: each flag is braked, nothing kept."""

    def __init__(self, error: StateError) -> None:
        self.id = secrets.token_hex(8)
        self.kept: Kept | None = None
        self.brakes = all_unknown(str(error))
        self.troubles = [str(error)]

    def keep(self, *_: object) -> None:
        """Raises `StateError`."""
        raise StateError(self.troubles[0])

    def brake(self, *_: object) -> None:
        """Raises `StateError`."""
        raise StateError(self.troubles[0])

    def lift(self, *_: object) -> None:
        """Raises `StateError`."""
        raise StateError(self.troubles[0])

    def close(self) -> None:
        """Nothing is held."""


def state_folder(config: Path) -> Path:
    """Where the engines of a configuration file remember. Links of the file are not followed."""
    return config.absolute().with_name(f"{config.name}.state")


def claim(config: Path, port: int) -> EngineState:
    """Take a place, and read what is there. Blocks; see the module for who gets which."""
    root = state_folder(config)
    try:
        return _claim(root, port)
    except OSError as error:
        return LostState(StateError.at(root, error))
    except StateError as error:
        return LostState(error)


def _claim(root: Path, port: int) -> EngineState:
    durable.make_folder(root)
    with locked(root / "lock"):
        found = find_places(root, port)
        for place in found:
            if (lock := try_lock(place.folder / "lock")) is not None:
                return _taken(place, found, lock, port)
        number = 1 + max((place.number for place in found), default=-1)
        place = FoundPlace(root / f"engine-{number}")
        durable.make_folder(place.folder)
        lock = try_lock(place.folder / "lock")
        if lock is None:
            raise StateError(f"{place.folder}: held by somebody who is no engine")
        return _taken(place, found, lock, port)


def _taken(place: FoundPlace, others: Sequence[FoundPlace], lock: int, port: int) -> EngineState:
    """Make a place ours; where nothing can be written, it is not worth having."""
    try:
        return Place(place, others, lock, port)
    except BaseException:
        os.close(lock)
        raise


class Place:
    """An engine's own folder, held until the engine ends."""

    def __init__(
        self, found: FoundPlace, others: Sequence[FoundPlace], lock: int, port: int
    ) -> None:
        self._folder, self._lock, self._port = found.folder, lock, port
        document = found.document
        self.id = document.id if document else secrets.token_hex(8)
        self.kept = document.kept if document else None
        self.troubles = found.troubles
        self.brakes = dict(found.brakes)
        if found.is_new:
            for other in others:
                self.brakes = {**other.brakes, **self.brakes}
        self._write(self.kept)  # also shows that it can be written
        for flag, brake in self.brakes.items():
            if self._brake_file(flag, brake) not in found.files:
                self.brake(flag, brake)
        kept = {self._brake_file(flag, brake) for flag, brake in self.brakes.items()}
        for path in found.files:
            if path not in kept:
                _remove(path)

    def keep(self, kept: Kept) -> None:
        """Remember what serves."""
        self._write(kept)

    def brake(self, flag: str, brake: Brake) -> None:
        """Remember a brake."""
        path = self._brake_file(flag, brake)
        try:
            durable.make_folder(path.parent)
            durable.write_new(path, write_brake(brake))
        except OSError as error:
            raise StateError.at(path, error) from error

    def lift(self, flag: str, brake: Brake) -> None:
        """Forget a brake."""
        _remove(self._brake_file(flag, brake))

    def close(self) -> None:
        """Leave the place to others."""
        os.close(self._lock)

    def _brake_file(self, flag: str, brake: Brake) -> Path:
        return self._folder / "brakes" / f"{flag}.{brake.id}.json"

    def _write(self, kept: Kept | None) -> None:
        path = self._folder / "engine.json"
        document = Document(id=self.id, port=self._port, kept=kept)
        try:
            durable.replace_whole(path, write_document(document))
        except OSError as error:
            raise StateError.at(path, error) from error


def _remove(path: Path) -> None:
    try:
        durable.remove(path)
    except OSError as error:
        raise StateError.at(path, error) from error
