"""Runs one program that must not outlive the process that asked for it.

`python -P -m pytest_phase5.leash PROGRAM ARGUMENT...` starts the program and passes SIGTERM
on to it. It also stops the program when its owner dies, by whatever means: standard input is
a pipe from the owner, so its end of file means that the owner is gone. On Linux the kernel
signals the owner's death as well, since a fork elsewhere may keep the pipe open.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from types import FrameType
from typing import Final

#: How long a program may drain when nobody waits for it any more, in seconds.
ORPHAN_GRACE: Final = 5.0

#: What the kernel sends when the owner dies.
_OWNER_DIED: Final = signal.SIGUSR2

_PR_SET_PDEATHSIG: Final = 1

#: Taken by whoever asks the program to stop, and never given back.
_ASKED: Final = threading.Lock()


def main(command: list[str]) -> int:
    """Run the command to its end and return its exit status as a shell would."""
    owner = os.getppid()
    _signal_on_death_of_parent(_OWNER_DIED)
    # The command comes from the user who runs pytest, as a list and without a shell.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_leash)  # noqa: S603, PLW1509 - as above; no thread runs yet

    def on_terminate(_number: int, _frame: FrameType | None) -> None:
        child.terminate()

    def on_owner_died(_number: int, _frame: FrameType | None) -> None:
        # The kernel tells of the thread that started us; its process may live on.
        if os.getppid() != owner:
            _stop_orphan(child)

    signal.signal(signal.SIGTERM, on_terminate)
    signal.signal(_OWNER_DIED, on_owner_died)
    threading.Thread(target=_await_end_of_file, args=(child,), daemon=True).start()
    if os.getppid() != owner:
        _stop_orphan(child)
    code = child.wait()
    return code if code >= 0 else 128 - code


def _await_end_of_file(child: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        continue
    _stop_orphan(child)


def _stop_orphan(child: subprocess.Popen[bytes]) -> None:
    """Ask the program to stop, and end the whole process group when it does not.

    Once, however often the owner's death is noticed: being asked twice means to many programs,
    an engine among them, that they are to drop everything as it stands.
    """
    if not _ASKED.acquire(blocking=False):
        return
    child.terminate()
    deadline = threading.Timer(ORPHAN_GRACE, os.killpg, (os.getpgrp(), signal.SIGKILL))
    deadline.daemon = True
    deadline.start()


def _die_with_leash() -> None:
    _signal_on_death_of_parent(signal.SIGTERM)


def _signal_on_death_of_parent(number: signal.Signals) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
