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
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from gates.samples import Sample, write_rows
from pytest_phase5.load.checks import RunReport, write_report
from pytest_phase5.load.client import AiohttpClient, Client
from pytest_phase5.load.flight import Flights, Ticket
from pytest_phase5.load.models import TargetError, served_models
from pytest_phase5.load.plan import Plan, read_plan

Blocks = Sequence[tuple[int, tuple[Ticket, ...]]]  #: concurrency and tickets of each block


@dataclass(slots=True)
class Stop:
    """Cancels the run from outside, and remembers why. The first reason counts."""

    task: "asyncio.Task[None]"
    reason: str = ""

    def __call__(self, reason: str) -> None:
        """Stop the run."""
        self.reason = self.reason or reason
        self.task.cancel()


async def open_loop(flights: Flights, tickets: Sequence[Ticket], max_in_flight: int) -> None:
    """Send each request when it is due, whatever became of those before."""
    async with asyncio.TaskGroup() as group:
        for ticket in tickets:
            due = ticket.shot.due
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


async def closed_loop(flights: Flights, blocks: Blocks) -> None:
    """Block after block; in a block, a request is due when its predecessor ended."""
    for concurrency, tickets in blocks:
        waiting = iter(tickets)
        begin = flights.clock()
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(tickets))):
                group.create_task(_lane(flights, waiting, begin))


async def _lane(flights: Flights, waiting: Iterator[Ticket], begin: float) -> None:
    due = begin
    for ticket in waiting:
        due = await flights.fly(ticket, due)


def run(plan: Plan) -> tuple[list[Sample], RunReport]:
    """Carry out a plan; returns the samples in order and the report.

    Raises:
        TargetError: when a target does not say which model it serves.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(plan))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Nothing that exists now becomes garbage meanwhile; what is made then is small."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


async def _run(plan: Plan) -> tuple[list[Sample], RunReport]:
    async with AiohttpClient() as client:
        models = await served_models(client, plan)
        tickets = [tuple(Ticket.of(plan, shot, models) for shot in shots) for shots in plan.shots()]
        with _no_collection():
            return await _timed(plan, tickets, client)


async def _timed(
    plan: Plan, tickets: Sequence[tuple[Ticket, ...]], client: Client
) -> tuple[list[Sample], RunReport]:
    origin, started = time.monotonic(), datetime.now(UTC).isoformat()
    flights = Flights(client=client, clock=lambda: time.monotonic() - origin, timeout=plan.timeout)
    task = asyncio.create_task(_go(flights, plan, tickets))
    stop = Stop(task)
    _listen(stop)
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()  # raises what went wrong inside
    samples = sorted(flights.samples, key=lambda sample: sample.index)
    report = RunReport(
        complete=not task.cancelled(),
        reason=stop.reason,
        started=started,
        origin=origin,
        rows=len(samples),
        loop=type(asyncio.get_running_loop()).__module__,
    )
    return samples, report


async def _go(flights: Flights, plan: Plan, tickets: Sequence[tuple[Ticket, ...]]) -> None:
    if plan.closed:
        widths = (block.concurrency for block in plan.blocks)
        await closed_loop(flights, list(zip(widths, tickets, strict=True)))
    else:
        timeline = sorted(chain.from_iterable(tickets), key=lambda ticket: ticket.shot.due)
        await open_loop(flights, timeline, plan.max_in_flight)


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
        samples, report = run(plan)
    except TargetError as error:
        return _refuse(error)
    write_rows(out, samples)
    write_report(out.with_suffix(".json"), report)
    return 0 if report.complete else 1


def _refuse(error: Exception) -> int:
    print(f"generator: {error}", file=sys.stderr)  # noqa: T201 - a command
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
