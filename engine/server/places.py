"""The places of a state folder, as an engine that starts finds them."""

import fcntl
import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from engine.core.brakes import UNKNOWN, Brake
from engine.core.flags import FLAGS
from engine.server.kept import Document, read_brake, read_document

log = logging.getLogger("engine.server.state")

_PLACE: Final = re.compile(r"engine-(\d+)")


@dataclass(slots=True)
class FoundPlace:
    """A place as it was found; `files` are those of its brakes."""

    folder: Path
    document: Document | None = None
    brakes: dict[str, Brake] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    @property
    def number(self) -> int:
        """Places are numbered from 0."""
        return int(self.folder.name.removeprefix("engine-"))

    @property
    def is_new(self) -> bool:
        """Whether no engine has ever had it: one that made it, and ended, had not."""
        return self.document is None and not self.troubles

    def rank(self, port: int) -> tuple[bool, int, int]:
        """Who is taken first."""
        same = self.document is not None and self.document.port == port
        return not same, -len(self.brakes), self.number


def find_places(root: Path, port: int) -> list[FoundPlace]:
    """Every place, those first that an engine of this port should rather have.

    Raises:
        OSError: the folder cannot be read.
    """
    folders = [folder for folder in root.iterdir() if _PLACE.fullmatch(folder.name)]
    return sorted(map(read_place, folders), key=lambda place: place.rank(port))


def read_place(folder: Path) -> FoundPlace:
    """Read one. What is doubtful brakes.

    Raises:
        OSError: its brakes cannot be listed.
    """
    place = FoundPlace(folder)
    path = folder / "engine.json"
    try:
        place.document = read_document(path.read_bytes())
    except FileNotFoundError:
        pass  # somebody began, and did not come to serve
    except (OSError, ValueError) as error:
        place.troubles.append(f"{path.name} cannot be read, so every flag is braked")
        said = "%s: cannot be read, so every flag is braked: %s"
        log.error(said, path, error)  # noqa: TRY400 - the message says it all
    lifted = place.document.kept.lifted if place.document and place.document.kept else ()
    for file, flag, brake in _read_brakes(folder / "brakes"):
        place.files.append(file)
        if brake.cause == UNKNOWN:
            place.troubles.append(f"{file.name}: {brake.reason}")
            log.error("%s: %s; the flag is braked", file, brake.reason)
        if brake.id not in lifted:
            place.brakes.setdefault(flag, brake)
    if place.document is None and place.troubles:
        place.brakes = {**all_unknown(place.troubles[0]), **place.brakes}
    return place


def _read_brakes(folder: Path) -> Iterator[tuple[Path, str, Brake]]:
    """Every file is a brake. One whose name tells no flag brakes all of them."""
    for path in sorted(folder.iterdir()) if folder.exists() else ():
        flag, _, rest = path.name.partition(".")
        brake_id = rest.removesuffix(".json") or secrets.token_hex(8)
        try:
            brake = read_brake(brake_id, path.read_bytes())
        except OSError as error:
            brake = Brake(id=brake_id, cause=UNKNOWN, reason=f"cannot be read: {error.strerror}")
        for name in [flag] if flag in FLAGS else FLAGS:
            yield path, name, brake


def all_unknown(reason: str) -> dict[str, Brake]:
    """A brake on every flag, since nothing is known."""
    return {name: Brake(id=secrets.token_hex(8), cause=UNKNOWN, reason=reason) for name in FLAGS}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock; waits for it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def try_lock(path: Path) -> int | None:
    """A lock's handle, to be closed; None while somebody else has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
