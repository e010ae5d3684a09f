"""What an engine holds of the machine, and whether a fault left it with more."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

import psutil

#: Idle connections of clients come and go: a leak of one for each stream is more than these.
_ALLOWED: Final = {"descriptors": 8, "threads": 4, "children": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """Of the front end; the runtime is replaced by some faults, and counts as a child."""

    descriptors: int
    threads: int
    children: int


def holdings(pid: int) -> Holdings | None:
    """What a process holds now; None when it is gone."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return Holdings(
                descriptors=process.num_fds(),
                threads=process.num_threads(),
                children=len(process.children(recursive=True)),
            )
    except psutil.NoSuchProcess:
        return None


def grown(before: Holdings, after: Holdings) -> Iterator[str]:
    """What is left behind, in words."""
    old = asdict(before)
    for name, count in asdict(after).items():
        if count > old[name] + _ALLOWED[name]:
            yield f"leak: {count} {name}, {old[name]} before the fault"
