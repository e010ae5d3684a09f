"""The load generator: `python -P -m pytest_phase5.load.generator PLAN OUT`.

Reads a plan, sends its requests, appends the measured samples to OUT (JSON lines), and last
writes its report beside it (`OUT` with the suffix `.json`). It runs in a process of its own,
so that nothing of its parent, such as assertion rewriting or coverage, is in its timing.

It stops on SIGINT, SIGTERM and when its standard input ends (its parent is gone); it then
writes what there is and says that the run is not complete. Exit status: 0 complete, 1 not
complete, 2 a plan that cannot be run, or a target that does not say which model it serves.
"""

import asyncio
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

from gates.samples import Sample, write_rows
from pytest_phase5.load.checks import RunReport, write_report
from pytest_phase5.load.client import AiohttpClient, Client
from pytest_phase5.load.collecting import no_collection
from pytest_phase5.load.flight import Flights
from pytest_phase5.load.models import TargetError, served_models
from pytest_phase5.load.plan import Plan
from pytest_phase5.load.plan_file import read_plan
from pytest_phase5.load.progress import PROGRESS_FILE, TICK, write_progress
from pytest_phase5.load.stepping import Search
from pytest_phase5.load.steps import StopRule
from pytest_phase5.load.ticket import Ticket

Tickets = Sequence[tuple[Ticket, ...]]  #: those of each block


@dataclass(slots=True)
class Stop:
    """Cancels the run from outside, and remembers why. The first reason counts."""

    task: "asyncio.Task[Any]"
    reason: str = ""

    def __call__(self, reason: str) -> None:
        """Stop the run."""
        self.reason = self.reason or reason
        self.task.cancel()


async def open_loop(
    flights: Flights, tickets: Sequence[Ticket], max_in_flight: int, later: float = 0.0
) -> None:
    """Send each request when it is due, whatever became of those before.

    Args:
        flights: sends.
        tickets: by when they are due.
        max_in_flight: open requests beyond which one is dropped.
        later: seconds by which all are due later than planned.
    """
    async with asyncio.TaskGroup() as group:
        for ticket in tickets:
            due = ticket.shot.due + later
            await _until(due, flights.clock)
            if flights.in_flight >= max_in_flight:
                flights.drop(ticket, due)
            else:
                group.create_task(flights.fly(ticket, due))


async def _until(due: float, clock: Callable[[], float]) -> None:
    # Also when late: the tasks just made must get their turn to send.
    await asyncio.sleep(max(0.0, due - clock()))
    # A loop rounds its timers and may wake up to a millisecond early.
    while (left := due - clock()) > 0:  # noqa: ASYNC110 - it waits for time, not for an event
        await asyncio.sleep(left)


async def step_up(flights: Flights, plan: Plan, search: Search, tickets: Tickets) -> None:
    """Step after step, each to its last answer, until the search is over."""
    later = 0.0
    for step in _steps(plan, search.rule, tickets):
        later = max(later, flights.clock() - min(ticket.shot.due for ticket in step))
        await open_loop(flights, step, plan.max_in_flight, later)
        number = step[-1].shot.block
        if search.is_over([sample for sample in flights.samples if sample.block == number]):
            return


def _steps(plan: Plan, rule: StopRule, tickets: Tickets) -> Iterator[list[Ticket]]:
    """The requests of each step; warm-up goes straight on into the step that follows it."""
    step: list[Ticket] = []
    for block, its in zip(plan.blocks, tickets, strict=True):
        step += its
        number = step[-1].shot.block if step else None
        if not block.warmup and number is not None and number >= rule.first:
            yield step
            step = []


async def closed_loop(flights: Flights, plan: Plan, tickets: Tickets) -> None:
    """Block after block; in a block, a request is due when its predecessor ended."""
    for block, its in zip(plan.blocks, tickets, strict=True):
        waiting = iter(its)
        begin = flights.clock()
        async with asyncio.TaskGroup() as group:
            for _ in range(min(block.concurrency, len(its))):
                group.create_task(_lane(flights, waiting, begin))


async def _lane(flights: Flights, waiting: Iterator[Ticket], begin: float) -> None:
    due = begin
    for ticket in waiting:
        due = await flights.fly(ticket, due)


def run(plan: Plan, folder: Path) -> tuple[list[Sample], RunReport]:
    """Carry out a plan; returns the samples in order and the report.

    Raises:
        TargetError: when a target does not say which model it serves.
        OSError: when the plan's certificates cannot be read.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(plan, folder))


def client_of(plan: Plan) -> Client:
    """The client that a plan's driver speaks through."""
    if plan.driver == "http2":
        from pytest_phase5.load.http2 import Http2Client

        return Http2Client(plan.ca_file)
    return AiohttpClient(plan.ca_file, reuse=plan.reuse)


async def _run(plan: Plan, folder: Path) -> tuple[list[Sample], RunReport]:
    async with client_of(plan) as client:
        models = await served_models(client, plan)
        tickets = [tuple(Ticket.of(plan, shot, models) for shot in shots) for shots in plan.shots()]
        with no_collection():
            return await _timed(plan, tickets, client, folder)


async def _timed(
    plan: Plan, tickets: Tickets, client: Client, folder: Path
) -> tuple[list[Sample], RunReport]:
    origin, started = time.monotonic(), datetime.now(UTC).isoformat()
    flights = Flights(client=client, clock=lambda: time.monotonic() - origin, timeout=plan.timeout)
    search = Search(plan, plan.stop) if plan.stop is not None else None
    task = asyncio.create_task(_go(flights, plan, search, tickets))
    stop = Stop(task)
    _listen(stop)
    planned = sum(map(len, tickets))
    ticking = asyncio.create_task(_ticks(flights, planned, folder / PROGRESS_FILE))
    await asyncio.wait({task, ticking}, return_when=asyncio.FIRST_COMPLETED)
    ticking.cancel()
    await asyncio.wait({task, ticking})
    for ended in (task, ticking):
        if not ended.cancelled():
            ended.result()  # raises what went wrong inside
    _tick(flights, planned, folder / PROGRESS_FILE)
    end = search.end if search else None
    samples = sorted(flights.samples, key=lambda sample: sample.index)
    report = RunReport(
        complete=not task.cancelled(),
        reason=stop.reason,
        started=started,
        origin=origin,
        rows=len(samples),
        loop=type(asyncio.get_running_loop()).__module__,
        connections=client.connections(),
        stopped_at=end.block if end else None,
        stop_reason=end.why if end else "",
        stopped_by=end.by if end else None,
        late=tuple(search.late) if search else (),
    )
    return samples, report


async def _go(flights: Flights, plan: Plan, search: Search | None, tickets: Tickets) -> None:
    if plan.closed:
        await closed_loop(flights, plan, tickets)
    elif search is not None:
        await step_up(flights, plan, search, tickets)
    else:
        timeline = sorted(chain.from_iterable(tickets), key=lambda ticket: ticket.shot.due)
        await open_loop(flights, timeline, plan.max_in_flight)


async def _ticks(flights: Flights, planned: int, path: Path) -> NoReturn:
    while True:
        _tick(flights, planned, path)
        await asyncio.sleep(TICK)


def _tick(flights: Flights, planned: int, path: Path) -> None:
    gc.collect(1)  # what is young: a little each time, where hours of it would be much
    flights.client.connections()  # a look now and then, for a client that has to look
    write_progress(path, flights.progress(planned))


def _listen(stop: Stop) -> None:
    """Stop on a signal, and when the parent's end of standard input closes."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number.name)
    # A thread, since not every kind of standard input can be polled.
    threading.Thread(target=_await_parent, args=(loop, stop), daemon=True).start()


def _await_parent(loop: asyncio.AbstractEventLoop, stop: Stop) -> None:
    while os.read(0, 1024):
        pass
    if not loop.is_closed():
        loop.call_soon_threadsafe(stop, "the parent process is gone")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None  # the report names the loop that was used
    return uvloop.new_event_loop


def main(arguments: Sequence[str]) -> int:
    """Run the plan of the command line."""
    if len(arguments) != 2:  # noqa: PLR2004 - PLAN and OUT
        print("usage: python -P -m pytest_phase5.load.generator PLAN OUT", file=sys.stderr)  # noqa: T201 - a command
        return 2
    plan_path, out = (Path(argument) for argument in arguments)
    try:
        plan = read_plan(plan_path)
    except (OSError, ValueError) as error:
        return _refuse(error)
    try:
        samples, report = run(plan, out.parent)
    except (TargetError, OSError) as error:
        return _refuse(error)
    write_rows(out, samples)
    write_report(out.with_suffix(".json"), report)
    return 0 if report.complete else 1


def _refuse(error: Exception) -> int:
    print(f"generator: {error}", file=sys.stderr)  # noqa: T201 - a command
    return 2


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Not by way of the interpreter's end: there pyreqwest's thread, when it still has a
    # connection to tidy up, takes the process down with an abort now and then.
    os._exit(status)
