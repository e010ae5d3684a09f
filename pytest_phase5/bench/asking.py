"""One round of one server: a plan of the load generator, carried out in its child process."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psutil

from pytest_phase5.bench.cells import Cell
from pytest_phase5.bench.figures import Figures, figures
from pytest_phase5.bench.meter import Meter, busy
from pytest_phase5.bench.prompts import Asked, expected, to_model
from pytest_phase5.bench.servers import Server
from pytest_phase5.load.driver import run_plan
from pytest_phase5.load.plan import Block, Plan
from pytest_phase5.load.schedule import arrivals

#: Seconds for the generator to start and connect, beside the bound of a round.
_START: Final = 2.0
#: Seconds that it may send late at the 99th percentile: on a machine that is fully used it shares
#: the cores with what it measures, and every arm alike.
_LAG: Final = 0.1
#: Open requests at once: an overloaded server may let them pile up. Below 1,024 open files.
_MOST_OPEN: Final = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a round of an arm came to, what it used, and what the servers beside it did."""

    number: int
    place: int  #: of the arm in the order of its round
    arm: str
    figures: Figures
    cpu_seconds: float
    most_mib: float
    idle_cpu_seconds: float  #: of all other servers meanwhile


def plan(cell: Cell, asked: Asked, server: Server, seed: int) -> Plan:
    """The plan of a round."""
    requests = to_model(asked, server.model)
    due = () if cell.rate is None else arrivals("poisson", cell.rate, len(requests), seed)
    return Plan(
        targets={server.arm: server.url},
        blocks=(
            Block(arm=server.arm, requests=requests, concurrency=cell.streams, arrivals=tuple(due)),
        ),
        closed=cell.rate is None,
        timeout=cell.bound,
        budget=cell.bound + _START,
        lag_limit=_LAG,
        max_in_flight=_MOST_OPEN,
    )


def ask(
    cell: Cell, asked: Asked, server: Server, others: Sequence[Server], folder: Path, seed: int
) -> Round:
    """Carry out a round of one server, while the others have nothing to do."""
    beside = [process for other in others for process in other.processes()]
    idle = busy(beside)
    with Meter(_with_children(server)) as meter:
        result = run_plan(plan(cell, asked, server, seed), folder)
    fault = "" if result.valid else result.invalid_reason
    return Round(
        number=0,
        place=0,
        arm=server.arm,
        figures=figures(result.samples, [expected(request) for request in asked], fault),
        cpu_seconds=meter.cpu_seconds,
        most_mib=meter.most_mib,
        idle_cpu_seconds=busy(beside) - idle,
    )


def placed(one: Round, number: int, place: int) -> Round:
    """The same round with its number, and its place in the order."""
    return replace(one, number=number, place=place)


def _with_children(server: Server) -> list[psutil.Process]:
    return server.processes()
