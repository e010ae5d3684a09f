"""How old this process is: a rollback counts from the moment at which it was called."""

import os
import sys
import time
from pathlib import Path
from typing import Final

#: Where the system does not tell: when this module was loaded, some 50 ms after the start.
_LOADED: Final = time.monotonic()

#: The start time is the 22nd field of `/proc/self/stat`, counted from the state behind the name.
_START_FIELD: Final = 19


def process_seconds() -> float:
    """Seconds since this process began."""
    since_loaded = time.monotonic() - _LOADED
    if sys.platform != "linux":
        return since_loaded
    try:
        text = Path("/proc/self/stat").read_text(encoding="utf-8")
        ticks = int(text.rpartition(")")[2].split()[_START_FIELD])
    except (OSError, ValueError, IndexError):
        return since_loaded
    started = ticks / os.sysconf("SC_CLK_TCK")
    return max(time.clock_gettime(time.CLOCK_BOOTTIME) - started, since_loaded)
