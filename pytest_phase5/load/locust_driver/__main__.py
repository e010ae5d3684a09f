"""The Locust driver: `python -P -m pytest_phase5.load.locust_driver PLAN OUT`.

It keeps the generator's contract: reads a plan, writes the measured samples to OUT and last
its report beside it, stops on SIGINT, SIGTERM and when its standard input ends, and exits with
0 complete, 1 not complete, 2 a plan that cannot be run. Locust's own files stay in the folder
`locust` beside OUT.

`... worker HOST:PORT [PROCESSES]` lends this machine to a run whose master waits at HOST:PORT.
Use it in trusted networks only: the plan, with its prompts, comes over in clear, and Locust
lets any machine that reaches the port join.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from gates.samples import write_rows
from pytest_phase5.load.checks import RunReport, write_report
from pytest_phase5.load.locust_driver.command import (
    UsageError,
    child_environment,
    interpreter,
    run_command,
)
from pytest_phase5.load.locust_driver.results import Merged, ProgressSum, merge, tail
from pytest_phase5.load.locust_driver.stops import Stops
from pytest_phase5.load.locust_driver.tree import Tree
from pytest_phase5.load.locust_driver.watching import watch
from pytest_phase5.load.locust_driver.worker import work
from pytest_phase5.load.models import TargetError, served_models
from pytest_phase5.load.plan import Plan
from pytest_phase5.load.plan_file import read_plan, write_plan
from pytest_phase5.load.progress import PROGRESS_FILE, write_progress

FOLDER: Final = "locust"


def run(plan: Plan, out: Path) -> RunReport:
    """Carry out a plan with Locust; writes the samples and returns the report.

    Raises:
        TargetError: when a target does not say which model it serves.
        UsageError: when Locust cannot be started.
    """
    folder = out.with_name(FOLDER).absolute()
    folder.mkdir()
    named = folder / "plan.json"
    write_plan(named, asyncio.run(_with_models(plan)))
    python, fleet = interpreter(os.environ), plan.fleet
    command = run_command(python, fleet, fleet.port if fleet.workers else _free_port())
    environment = child_environment(python, folder, named)
    progress = ProgressSum(folder, fleet.shares)

    def look() -> None:
        new = progress.new()
        if new is not None:
            write_progress(out.with_name(PROGRESS_FILE), new)

    stops = Stops(standard_input=True)
    with Tree(command, environment, folder) as tree:
        stopped = watch(tree, stops, look)
    return _finish(folder, out, plan, stopped, tree.wait())


def _finish(folder: Path, out: Path, plan: Plan, stopped: str, status: int) -> RunReport:
    merged = merge(
        folder, plan.fleet.shares, master=plan.fleet.shares > 1 or bool(plan.fleet.workers)
    )
    write_rows(out, merged.samples)
    report = _report(merged, stopped, _broken(folder, merged, stopped, status))
    write_report(out.with_suffix(".json"), report)
    return report


def _broken(folder: Path, merged: Merged, stopped: str, status: int) -> str:
    """Why Locust did not do what it should, with what it said last; nothing if it did."""
    if stopped or not (status or merged.reason):
        return ""
    ended = f"Locust ended with status {status}"
    return "; ".join(filter(None, (merged.reason, ended, tail(folder))))


def _report(merged: Merged, stopped: str, broken: str) -> RunReport:
    first = merged.first
    return RunReport(
        complete=not (stopped or broken or merged.reason),
        reason=stopped or broken or merged.reason,
        started=first.started if first else "",
        origin=first.origin if first else 0.0,
        rows=sum(part.rows for part in merged.parts),
        loop="gevent",
        connections=sum(part.connections for part in merged.parts),
        faults=merged.faults,
    )


async def _with_models(plan: Plan) -> Plan:
    """The plan with a model in every request, so that Locust's processes need not ask."""
    from pytest_phase5.load.client import AiohttpClient

    async with AiohttpClient(plan.ca_file) as client:
        models = await served_models(client, plan)
    blocks = tuple(
        replace(
            block,
            requests=tuple(
                replace(request, body={"model": models[block.arm], **request.body})
                if block.arm in models
                else request
                for request in block.requests
            ),
        )
        for block in plan.blocks
    )
    return replace(plan, blocks=blocks)


def main(arguments: Sequence[str]) -> int:
    """Run the plan of the command line, or work for another machine."""
    try:
        return _main(arguments)
    except (OSError, ValueError, TargetError, UsageError) as error:
        _say(f"locust driver: {error}")
        return 2


def _main(arguments: Sequence[str]) -> int:
    match arguments:
        case ["worker", address]:
            return work(address, 1, once=True)
        case ["worker", address, processes]:
            return work(address, int(processes), once=True)
        case [plan, out]:
            return 0 if run(read_plan(Path(plan)), Path(out)).complete else 1
    raise UsageError(
        "usage: python -P -m pytest_phase5.load.locust_driver PLAN OUT"
        " | worker HOST:PORT [PROCESSES]"
    )


def _free_port() -> int:
    """A port for a master of ours; the forks come to it over loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - a command


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
