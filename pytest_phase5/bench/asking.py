"""One round of one server: a plan of the load generator, carried out in its child process."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytest_phase5.bench.cells import Cell
from pytest_phase5.bench.figures import Figures, figures
from pytest_phase5.bench.meter import Meter, busy, resident
from pytest_phase5.bench.prompts import Asked, expected, to_model
from pytest_phase5.bench.servers import Server
from pytest_phase5.load.driver import run_plan
from pytest_phase5.load.plan import Block, Plan
from pytest_phase5.load.schedule import arrivals

#: Seconds for the generator to start and connect, beside the bound of a round.
_START: Final = 3.0
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
    streams: int
    figures: Figures
    cpu_seconds: float
    most_mib: float
    rest_mib: float  #: what the server held when it had just started
    idle_cpu_seconds: float  #: of all other servers meanwhile

    @property
    def measures(self) -> Mapping[str, float]:
        """All of them, by name: those of the samples, CPU for each answer, memory."""
        answered = self.figures.outcomes.get("ok", 0)
        used = {"cpu_ms_per_request": 1e3 * self.cpu_seconds / answered} if answered else {}
        grown = (self.most_mib - self.rest_mib) / self.streams
        held = {"most_mib": self.most_mib, "mib_per_stream": grown}
        return {**self.figures.measures, **used, **held}


def plan(cell: Cell, asked: Asked, server: Server, seed: int) -> Plan:
    """The plan of a round: a connection for each request, since the peer keeps none open."""
    requests = to_model(asked, server.model)
    rate, count = cell.rate, len(requests)
    due = () if rate is None else arrivals("poisson", rate=rate, count=count, seed=seed)
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
        reuse=False,
    )


@dataclass(frozen=True, slots=True)
class Asker:
    """Carries out rounds of a cell, each in a folder of its own."""

    cell: Cell
    servers: Mapping[str, Server]
    rest_mib: Mapping[str, float]
    folder: Path
    seed: int

    def ask(self, arm: str, asked: Asked, number: int, place: int) -> Round:
        """A round of one server, while the others have nothing to do."""
        server = self.servers[arm]
        beside = [
            process
            for other in self.servers.values()
            if other is not server
            for process in other.processes()
        ]
        idle = busy(beside)
        folder = self.folder / f"{number}-{arm}"
        with Meter(server.processes()) as meter:
            result = run_plan(plan(self.cell, asked, server, self.seed + number), folder)
        fault = "" if result.valid else result.invalid_reason
        return Round(
            number=number,
            place=place,
            arm=arm,
            streams=self.cell.streams,
            figures=figures(result.samples, [expected(request) for request in asked], fault),
            cpu_seconds=meter.cpu_seconds,
            most_mib=meter.most_mib,
            rest_mib=self.rest_mib[arm],
            idle_cpu_seconds=busy(beside) - idle,
        )


def at_rest(servers: Mapping[str, Server]) -> dict[str, float]:
    """MiB that each server holds now."""
    return {arm: resident(server.processes()) for arm, server in servers.items()}
