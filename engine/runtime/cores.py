"""Which core a runtime process computes on that computes with one thread.

A step is a hand-over between two threads of the process, hundreds of times a second: from
the one that builds it to the one that computes it, and back. Spread over the cores each
hand-over wakes one up, and whatever else wakes up there, the front end's threads above all,
takes the step's place. On one core neither happens: a tenth more tokens a second on two.

With more threads the kernel decides: which cores share an execution unit is not ours to know.
"""

import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger("engine.runtime.worker")


def kept(available: Iterable[int], threads: int, turn: int) -> int | None:
    """The core for a process, or None when the kernel is to decide.

    Args:
        available: cores that the process may use.
        threads: how many it computes with; 0 where a library decides that.
        turn: a number that differs between processes, so that they take different cores.
    """
    cores = sorted(available)
    return cores[turn % len(cores)] if threads == 1 and len(cores) > 1 else None


def keep_to_core(threads: int) -> None:
    """Keep this process to one core, with every thread that it has or starts. Linux alone can.

    Without effect unless it computes with one thread and may use several cores.
    """
    if sys.platform == "linux":
        core = kept(os.sched_getaffinity(0), threads, os.getpid())
        if core is not None:
            for thread in Path("/proc/self/task").iterdir():
                os.sched_setaffinity(int(thread.name), {core})
            log.info("keeping to core %d", core)
