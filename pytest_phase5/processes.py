"""Which processes a process started: for checking that an engine leaves none behind."""

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """A process, told apart from a later one with the same id by its start."""

    pid: int
    parent: int
    started: str


def descendants(pid: int) -> frozenset[Process]:
    """All living processes below a process, not counting itself."""
    table = list(_table())
    family = {pid}
    while True:
        found = {process.pid for process in table if process.parent in family}
        if found <= family:
            return frozenset(p for p in table if p.pid in family and p.pid != pid)
        family |= found


def still_alive(processes: Iterable[Process]) -> tuple[Process, ...]:
    """Those that run on, whoever their parent is by now."""
    living = {(process.pid, process.started) for process in _table()}
    return tuple(p for p in processes if (p.pid, p.started) in living)


def _table() -> Iterable[Process]:
    return _from_proc() if sys.platform == "linux" else _from_ps()


def _from_proc() -> Iterable[Process]:
    for folder in os.scandir("/proc"):
        if folder.name.isdigit():
            try:
                stat = Path(folder.path, "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:  # it ended while we looked
                continue
            # The name in parentheses may hold anything, so count from its end.
            fields = stat.rpartition(")")[2].split()
            state, parent, started = fields[0], int(fields[1]), fields[19]
            if state != "Z":
                yield Process(int(folder.name), parent, started)


def _from_ps() -> Iterable[Process]:
    command = ["/bin/ps", "-A", "-o", "pid=,ppid=,stat=,lstart="]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - fixed program and arguments
    for line in answer.stdout.splitlines():
        pid, parent, state, started = line.split(maxsplit=3)
        if not state.startswith("Z"):
            yield Process(int(pid), int(parent), started)
