"""Which core a runtime process computes on that computes with one thread.

A step is a hand-over between two threads of the process, hundreds of times a second: from
the one that builds it to the one that computes it, and back. Spread over the cores each
hand-over wakes one up, and whatever else wakes up there, the front end's threads above all,
takes the step's place. On one core neither happens: a tenth more tokens a second on two. Two
processes on one core would each have half of it, so a core is claimed.

With more threads the kernel decides: which cores share an execution unit is not ours to know.
"""

import errno
import logging
import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

log = logging.getLogger("engine.runtime.worker")

#: What claims to cores are called, among the kernel's abstract socket names.
_NAME: Final = "phase5-core"


def candidates(available: Iterable[int], threads: int, turn: int) -> list[int]:
    """The cores that a process may keep to, the first first; none when the kernel is to decide.

    Args:
        available: cores that the process may use.
        threads: how many it computes with; 0 where a library decides that.
        turn: a number that differs between processes, so that none is always the favourite.
    """
    cores = sorted(available)
    if threads != 1 or len(cores) == 1:
        return []
    first = turn % len(cores)
    return cores[first:] + cores[:first]


def keep_to_core(threads: int) -> None:
    """Keep this process to a core that no other of ours keeps to, with all of its threads.

    Without effect unless it computes with one thread, may use several cores, and one of them is
    left. Linux alone can.

    Raises:
        OSError: the kernel refuses it for another reason than that the core is taken.
    """
    if sys.platform != "linux":
        return
    for core in candidates(os.sched_getaffinity(0), threads, os.getpid()):
        if _claim(core):
            for thread in Path("/proc/self/task").iterdir():
                os.sched_setaffinity(int(thread.name), {core})
            log.info("keeping to core %d", core)
            return


def _claim(core: int) -> bool:
    """Take a name that one process at a time can have; the kernel takes it back at its end."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0{_NAME}-{os.getuid()}-{core}")
    except OSError as error:
        claim.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    claim.detach()  # nobody else closes it
    return True
