"""A small disk of our own: a file system in memory that only those see who are let in.

It is mounted in a mount namespace that one process holds, on the leash of whoever asked for it.
Nobody else's mounts change, and with the last process in there it is gone, however we go. Root may
do this, and where the system lets them, others in a user namespace of their own.
"""

import os
import select
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chaos.errors import FaultError
from chaos.serving import stop_leashed

#: Bytes: a thousand times what a store, a brake and a verdict take, and filled in no time.
SIZE: Final = 4 * 1024 * 1024

_START_SECONDS: Final = 10.0

#: Mounts it, says by which process the namespace is held, and holds it.
_HOLD: Final = (
    'mount -t tmpfs -o "size=$2,mode=700" phase5-disk "$1" && echo "held $$" && exec sleep infinity'
)

#: Goes on where we are: entering a namespace leads to its root.
_ENTER: Final = 'cd "$1" && shift && exec "$@"'

#: How to get a mount namespace, and back into it: as root, and as anybody.
_WAYS: Final = (
    (("--mount",), ("--mount",)),
    (("--user", "--map-root-user", "--mount"), ("--user", "--preserve-credentials", "--mount")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk that is mounted."""

    inside: Path  #: where those who were let in find it
    outside: Path  #: the same, for us
    enter: tuple[str, ...]  #: in front of a command: lets it in

    def free(self) -> int:
        """Bytes that can still be written, as the file system says."""
        found = os.statvfs(self.outside)
        return found.f_bavail * found.f_frsize


@contextmanager
def mounted(folder: Path, leash: Sequence[str]) -> Iterator[Disk]:
    """Mount a disk at a folder for the length of a block, and for nobody else.

    Raises:
        FaultError: that is not allowed here, or it does not end.
    """
    folder.mkdir(parents=True)
    process, disk = _mount(folder, leash)
    try:
        yield disk
    finally:
        _let_go(process)


def _mount(folder: Path, leash: Sequence[str]) -> tuple["subprocess.Popen[bytes]", Disk]:
    for program in ("unshare", "nsenter"):
        if shutil.which(program) is None:
            raise FaultError(f"a disk of our own: no {program}; allowed: Linux with util-linux")
    refused = []
    for asked, back in _WAYS:
        hold = ("sh", "-c", _HOLD, "sh", str(folder), str(SIZE))
        command = [*leash, "unshare", *asked, "--propagation", "private", *hold]
        process = subprocess.Popen(  # noqa: S603 - a list, and a fixed script
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ),
            start_new_session=True,  # a Ctrl-C is for us, who stop it in order
        )
        said = _first_line(process)
        word, _, pid = said.partition(" ")
        if word == "held":
            enter = ("nsenter", "--target", pid, *back, "sh", "-c", _ENTER, "sh", str(Path.cwd()))
            outside = Path("/proc", pid, "root", folder.resolve().relative_to("/"))
            return process, Disk(inside=folder.resolve(), outside=outside, enter=enter)
        _let_go(process)
        refused.append(said or f"nothing within {_START_SECONDS:g} s")
    raise FaultError(
        f"a disk of our own: {'; '.join(refused)}; allowed: root, or a system that gives user "
        "namespaces to others (kernel.apparmor_restrict_unprivileged_userns=0); without either: "
        "experiment disk-full-by-limit"
    )


def _let_go(process: "subprocess.Popen[bytes]") -> None:
    stop_leashed(process, "the disk")
    if process.stdout is not None:
        process.stdout.close()


def _first_line(process: "subprocess.Popen[bytes]") -> str:
    out = process.stdout
    if out is None or not select.select([out], [], [], _START_SECONDS)[0]:
        return ""
    return out.readline().decode(errors="replace").strip()
