"""What memory this process holds, what is free for it, and how it gives some back."""

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import mlx.core as mx

from engine.runtime.groups import memory_limit, own_groups

#: Reading costs some 10 microseconds, and who decides on memory looks once a second at most.
_READ_SECONDS: Final = 0.5

#: What mlx and the allocators below it say when there is no memory: Metal's command buffers,
#: its limits of one buffer and of the number of buffers, and malloc.
_OUT_OF_MEMORY: Final = (
    "insufficient memory",
    "attempting to allocate",
    "resource limit",
    "unable to allocate",
    "bad_alloc",
    "out of memory",
)


class Gauge:
    """The memory of this process, read at most every half second."""

    def __init__(self, read: Callable[[], int] | None = None) -> None:
        self._read = read or resident_bytes
        self._value = 0
        self._due = 0.0

    def value(self, now: float) -> int:
        """Bytes, as of half a second ago at most. `now` is monotonic."""
        if now >= self._due:
            self._value = self._read()
            self._due = now + _READ_SECONDS
        return self._value

    def forget(self) -> None:
        """Read again the next time: something large was given back."""
        self._due = 0.0


def resident_bytes(statm: Path = Path("/proc/self/statm"), platform: str = sys.platform) -> int:
    """All that this process holds: pages in memory, or what mlx holds on macOS.

    macOS tells a process only its highest value, which never shows that memory was given
    back; there the model and the caches, all in mlx's hands, are nearly everything.
    """
    if platform == "darwin":
        return mx.get_active_memory() + mx.get_cache_memory()
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def free_bytes() -> int:
    """What this process may still take: of the machine and of its control group, or of the GPU."""
    if mx.metal.is_available():
        allowed = int(mx.device_info()["max_recommended_working_set_size"])
        return max(allowed - mx.get_active_memory(), 0)
    if sys.platform == "darwin":  # without Metal: no figure of what is free, hence of all
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([_available(), *_left_in_groups(own_groups())])


def give_back() -> None:
    """Return what is free inside this process to the system.

    The caches of many small rows leave glibc's heap full of holes: 300 of 400 MB stayed
    resident without the trim.
    """
    mx.clear_cache()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # glibc alone has it


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of mlx says that there was no memory."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(mark in text for mark in _OUT_OF_MEMORY)


def _available(meminfo: Path = Path("/proc/meminfo")) -> int:
    lines = (line.split() for line in meminfo.read_text().splitlines())
    return next(int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:")


def _left_in_groups(groups: list[Path]) -> Iterator[int]:
    """What each control group with a limit still allows; files that it caches can go."""
    for group in groups:
        if (limit := memory_limit(group)) is not None:
            used = int((group / "memory.current").read_text())
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            yield max(limit - used + int(stat.get("inactive_file", 0)), 0)
