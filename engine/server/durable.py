"""Files that are there after a crash: written, synced, and their folder with them."""

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

#: Apple's fsync leaves the data in the drive's cache; this one does not.
_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)

#: What the system says where a file cannot grow: no space, no quota, or a limit on its size.
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def write_new(path: Path, data: bytes) -> None:
    """Write a file in place and make it durable; one that says this already is only synced.

    Raises:
        OSError: it may be missing, or torn. Its name is never torn.
    """
    if path.is_file() and path.read_bytes() == data:
        with path.open("rb") as file:
            _sync(file.fileno())
    else:
        _write(path, data)
    sync_folder(path.parent)


def replace_whole(path: Path, data: bytes) -> None:
    """Put a whole file in place of another one, and make it durable.

    Raises:
        OSError: the old one is there as it was.
    """
    other = path.with_name(f".{path.name}.new")
    _write(other, data)
    other.replace(path)
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove a file for good; one that is not there is no error.

    Raises:
        OSError: it may still be there.
    """
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder, if it is not there, and make it durable.

    Raises:
        OSError: it cannot be made, or something else has its name.
    """
    if not path.is_dir():
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _sync(handle)
    finally:
        os.close(handle)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        _sync(file.fileno())


def _sync(handle: int) -> None:
    if _FULL_SYNC is not None:
        fcntl.fcntl(handle, _FULL_SYNC)
    else:
        os.fsync(handle)
