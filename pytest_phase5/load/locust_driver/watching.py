"""Waiting for Locust's processes, until they end or are to end."""

import select
import time
from collections.abc import Callable
from typing import Final

from pytest_phase5.load.locust_driver.stops import Stops
from pytest_phase5.load.locust_driver.tree import GRACE, Tree

#: Seconds between two looks at processes that run.
LOOK: Final = 0.2


def watch(tree: Tree, stops: Stops, look: Callable[[], None]) -> str:
    """Wait for the end of all processes; why they were stopped, or nothing."""
    reason, deadline = "", None
    while not tree.ended(0):
        ready, _, _ = select.select([stops.heard, tree.alive], [], [], LOOK)
        if stops.heard in ready:
            reason = reason or stops.reason()
            tree.stop()
        if tree.status() is not None or reason:
            # The first process is gone, or all were asked to go: the rest has its time.
            deadline = deadline or time.monotonic() + GRACE
            if time.monotonic() > deadline:
                tree.stop()
                tree.kill()
        look()
    look()
    return reason
