"""Files that are changed wholly or not at all, and stay changed when the power fails."""

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

#: Seconds between two attempts at a lock: a write takes a few milliseconds.
_PAUSE: Final = 0.01

#: Whoever may read the folder may read a new file in it.
_MODE: Final = 0o644


#: What the system says where a file cannot grow: no space, no quota, or a limit on its size.
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def why(error: OSError) -> str:
    """Why a file could not be written, and what to do where its disk is full."""
    reason = error.strerror or str(error)
    return f"{reason}; make room there and try again" if error.errno in _NO_ROOM else reason


class LockHeldError(RuntimeError):
    """Another process holds a lock; the message names file and holder."""


def replace_file(path: Path, data: bytes) -> None:
    """Put data in the place of a file: afterwards it holds the old bytes or the new ones.

    Links are followed; mode and, for root, owner stay. The caller holds a lock: what a writer that
    died left behind is thrown away.

    Raises:
        OSError: the old bytes are still there.
    """
    real = path.resolve()
    scratch = real.with_name(f".{real.name}.new")
    scratch.unlink(missing_ok=True)
    old = real.stat()
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if os.geteuid() == 0:  # others cannot give files away
            os.fchown(descriptor, old.st_uid, old.st_gid)
        os.fchmod(descriptor, old.st_mode & 0o7777)
        _write(descriptor, data)
        sync(descriptor)
    finally:
        os.close(descriptor)
    scratch.replace(real)
    sync_folder(real.parent)


def write_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Make a file of our own, or replace it: a reader sees the former or the new one.

    Several processes may do so at once: the last one wins. What is not `durable` may be lost
    when the power fails; the disk is not waited for.

    Raises:
        OSError: the former one is still there.
    """
    scratch = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with scratch.open("wb") as file:
        file.write(data)
        if durable:
            file.flush()
            sync(file.fileno())
    scratch.replace(path)
    if durable:
        sync_folder(path.parent)


def append_to_file(path: Path, data: bytes) -> None:
    """Put data behind what a file holds. The file and its folder are made where they are missing.

    Raises:
        OSError: a part of it may be there.
    """
    fresh = not path.exists()
    path.parent.mkdir(exist_ok=True)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(path, flags, _MODE)
    try:
        _write(descriptor, data)
        sync(descriptor)
    finally:
        os.close(descriptor)
    if fresh:
        sync_folder(path.parent)
        sync_folder(path.parent.parent)


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Hold a lock between processes. The system takes it back from one that dies.

    Args:
        path: the lock's file; it is made where it is missing, and stays.
        seconds: how long to wait for another holder.

    Raises:
        LockHeldError: somebody holds it all that time.
        OSError: the file cannot be opened.
    """
    path.parent.mkdir(exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    try:
        _acquire(descriptor, path, time.monotonic() + seconds, seconds)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, deadline: float, seconds: float) -> None:
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() >= deadline:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
            raise LockHeldError(f"{path}: held by {holder}; waited {seconds:g} s for it")
        time.sleep(_PAUSE)


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync(descriptor: int) -> None:
    """Down to the disk. On macOS `fsync` alone stops at the disk's own cache."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        os.fsync(descriptor)
    else:
        fcntl.fcntl(descriptor, full)


def sync_folder(folder: Path) -> None:
    """A name in a folder is durable once the folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
