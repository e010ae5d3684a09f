"""What a server uses while it is asked: CPU of its processes, and the most memory they held.

Read from outside, in the process that started it, so that servers of every kind count alike.
"""

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import psutil

#: Seconds between two readings of memory; one takes a tenth of a millisecond.
EVERY: Final = 0.1
_MIB: Final = 2**20


def busy(processes: Sequence[psutil.Process]) -> float:
    """CPU seconds that processes have used so far; one that is gone adds nothing."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def resident(processes: Sequence[psutil.Process]) -> float:
    """MiB that processes hold now."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total / _MIB


@dataclass(slots=True)
class Meter:
    """Measures from entering the block to leaving it."""

    processes: Sequence[psutil.Process]
    cpu_seconds: float = 0.0
    most_mib: float = 0.0
    _began: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._began = busy(self.processes)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu_seconds = busy(self.processes) - self._began
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while True:
            self.most_mib = max(self.most_mib, resident(self.processes))
            if self._stop.wait(EVERY):
                return
