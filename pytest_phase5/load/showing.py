"""Live progress on standard error: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pytest_phase5.load.profiles import Part
from pytest_phase5.load.progress import Progress as Now

#: Seconds between two lines where there is no terminal.
NOW_AND_THEN: Final = 10.0

Show = Callable[[Part, Now], None]


@contextmanager
def showing() -> Iterator[Show]:
    """A function that shows how far a part is."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines(sys.stderr.write)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        tasks = {}

        def show(part: Part, now: Now) -> None:
            if part.name not in tasks:
                tasks[part.name] = bars.add_task(part.name, total=now.planned, state="")
            bars.update(tasks[part.name], completed=now.ended, total=now.planned, state=state(now))

        yield show


class Lines:
    """At most one line in so many seconds for each part, and its first one."""

    def __init__(
        self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._next: dict[str, float] = {}

    def __call__(self, part: Part, now: Now) -> None:
        """Say how far a part is, unless that was said just now."""
        at = self._clock()
        if at >= self._next.get(part.name, 0.0):
            self._next[part.name] = at + NOW_AND_THEN
            self._write(f"{part.name}: {now.ended} of {now.planned} requests, {state(now)}\n")


def state(now: Now) -> str:
    """What is open and what went wrong, in a few words."""
    wrong = {"failed": now.errors, "dropped": now.dropped}
    return ", ".join(
        (
            f"{now.in_flight} in flight",
            *(f"{count} {name}" for name, count in wrong.items() if count),
        )
    )
