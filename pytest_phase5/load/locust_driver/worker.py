"""This machine as a worker: it sends its share of runs whose master waits elsewhere."""

import os
import sys
import tempfile
from pathlib import Path

from pytest_phase5.load.locust_driver.command import (
    UsageError,
    child_environment,
    interpreter,
    worker_command,
)
from pytest_phase5.load.locust_driver.results import tail
from pytest_phase5.load.locust_driver.stops import Stops
from pytest_phase5.load.locust_driver.tree import Tree
from pytest_phase5.load.locust_driver.watching import watch


def work(address: str, processes: int, *, once: bool) -> int:
    """Be a worker, or several, until stopped or for one run.

    Without `once` it joins each next run of that master: a long load is a row of runs.

    Args:
        address: HOST:PORT of the master.
        processes: workers that this machine is.
        once: end after one run.

    Returns:
        0 when it was stopped between or in runs, or its one run ended well; 1 when Locust
        broke, found no master, or its one run was stopped.

    Raises:
        UsageError: for what is no address, or when Locust cannot be started.
    """
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise UsageError(f"worker {address!r}; allowed: HOST:PORT of the master")
    command = worker_command(interpreter(os.environ), host, int(port), processes)
    stops = Stops(standard_input=False)
    while True:
        status, stopped = _run(command, stops)
        if once:
            return 1 if status or stopped else 0
        if stopped:
            return 0
        if status:
            return 1


def _run(command: list[str], stops: Stops) -> tuple[int, str]:
    """One run: Locust's exit status, and why it was stopped."""
    with tempfile.TemporaryDirectory(prefix="phase5-worker-") as name:
        folder = Path(name)
        with Tree(command, child_environment(command[0], folder, None), folder) as tree:
            stopped = watch(tree, stops, lambda: None)
        if status := tree.wait():
            why = stopped or tail(folder)
            sys.stderr.write(f"worker: Locust ended with status {status}: {why}\n")
    return status, stopped
