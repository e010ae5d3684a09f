"""What this machine is, and how much memory it gives us."""

import os
import platform
from pathlib import Path
from typing import Final

from engine.runtime.groups import memory_limit, own_groups

#: The part of it that runtime processes may hold. What is left serves the front end, the
#: system and its file cache; on Apple's machines Metal recommends about as much.
SHARE: Final = 0.75


def machine_class() -> str:
    """What measurements are comparable on: system, architecture, processor count."""
    return f"{platform.system()}-{platform.machine()}-{os.cpu_count() or 0}cpu".lower()


def process_budget(configured: int | None, processes: int) -> tuple[int, str]:
    """Bytes that each of so many runtime processes may hold, and where the figure comes from."""
    if configured is not None:
        return configured, "runtime.memory_bytes"
    total, source = installed()
    return int(total * SHARE) // processes, f"{SHARE:.0%} of {source} for {processes} processes"


def installed(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> tuple[int, str]:
    """The machine's memory, or the limit of our control group where that is smaller."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [memory_limit(group) for group in own_groups(membership, root)]
    lowest = min((limit for limit in limits if limit is not None), default=machine)
    if lowest < machine:
        return lowest, f"the control group's {lowest} bytes"
    return machine, f"the machine's {machine} bytes"
