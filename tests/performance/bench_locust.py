"""What the Locust driver adds to the times that it measures, on a server that is known.

    ./dev run python tests/performance/bench_locust.py [--rate 150] [--requests 1500]
        [--processes 1 2] [--rounds 3]

The calibrated stub answers for two thirds of a second, so 150 requests a second are 100
streams. It writes down when each first token left; what a driver measured beyond that is its
own error. The asyncio generator is measured in between, so that the noise of the machine shows
in both. Half of the requests are cut in the middle in a run of their own: each must count.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from rich.console import Console
from rich.table import Table

from gates.samples import Outcome, Sample
from pytest_phase5.load.checks import read_report
from pytest_phase5.load.driver import LoadResult, run_plan
from pytest_phase5.load.plan import Driver, Fleet, Plan
from pytest_phase5.load.plans import open_loop
from pytest_phase5.load.stub_process import StubProcess, running_stub
from pytest_phase5.load.workload import SHORT

TTFT: Final = 0.03
GAP: Final = (2 / 3 - TTFT) / 15
#: Of the issue: the median error of a time to first token, in seconds.
TARGET: Final = 0.005
_SECONDS_TO_MS: Final = 1e3


@dataclass(frozen=True)
class Sender:
    """One way to send."""

    name: str
    driver: Driver
    fleet: Fleet = field(default_factory=Fleet)


@dataclass(frozen=True)
class Found:
    """What one run showed."""

    errors: list[float]  #: of times to first token, seconds
    lags: list[float]  #: seconds
    rate: float  #: sent per second
    streams: float  #: in flight on average
    invalid: str


def senders(processes: list[int]) -> Iterator[Sender]:
    """The generator, and Locust in so many processes."""
    yield Sender("asyncio", "http1")
    for count in processes:
        yield Sender(f"locust x {count}", "locust", Fleet(processes=count))


def a_plan(sender: Sender, url: str, kind: str, rate: float, requests: int) -> Plan:
    """So many requests at a constant rate."""
    plan = open_loop(
        url, rate=rate, requests=requests, seed=1, schedule="constant", driver=sender.driver,
        workload=replace(SHORT, model=kind),
    )  # fmt: skip
    return replace(plan, fleet=sender.fleet)


def measured(sender: Sender, rate: float, requests: int, folder: Path) -> Found:
    """One run at the rate."""
    with running_stub(folder.with_suffix(".jsonl"), ttft=TTFT, gap=GAP) as stub:
        plan = a_plan(sender, stub.url(), "ok", rate, requests)
        result = run_plan(plan, folder)
        return found(plan, result, stub, folder)


def found(plan: Plan, result: LoadResult, stub: StubProcess, folder: Path) -> Found:
    """Compare the samples with what the stub wrote down."""
    if not result.samples:
        return Found([], [], 0.0, 0.0, result.invalid_reason)
    origin = read_report(folder / "samples.json").origin
    keys = [r.key for block in plan.blocks if not block.warmup for r in block.requests]
    seen = stub.seen()
    errors = [
        sample.first_token - (seen[keys[sample.index]]["first"] - origin)
        for sample in result.samples
        if sample.first_token is not None
    ]
    sent = sorted(sample.sent for sample in result.samples if sample.sent is not None)
    span = sent[-1] - sent[0]
    lasted = sum(_lasted(sample) for sample in result.samples)
    lags = [sample.lag for sample in result.samples if sample.lag is not None]
    return Found(errors, lags, (len(sent) - 1) / span, lasted / span, result.invalid_reason)


def _lasted(sample: Sample) -> float:
    return (sample.end or 0.0) - (sample.sent or 0.0)


def cuts_counted(sender: Sender, folder: Path) -> tuple[int, int]:
    """Cut streams that were sent, and those that were counted as cut."""
    with running_stub(folder.with_suffix(".jsonl")) as stub:
        plan = a_plan(sender, stub.url(), "cut", 100, 100)
        samples = run_plan(plan, folder).samples
    return 100, sum(sample.outcome is Outcome.CUT for sample in samples)


def row(sender: Sender, runs: list[Found], cuts: tuple[int, int]) -> list[str]:
    """One line of the table."""
    errors = [error * _SECONDS_TO_MS for run in runs for error in run.errors]
    lags = [lag * _SECONDS_TO_MS for run in runs for lag in run.lags]
    return [
        sender.name,
        str(len(errors)),
        f"{median(errors):.2f}",
        f"{quantiles(errors, n=20)[-1]:.2f}",
        f"{median(run.rate for run in runs):.2f}",
        f"{median(run.streams for run in runs):.0f}",
        f"{median(lags):.2f} / {quantiles(lags, n=100)[-1]:.2f}",
        f"{cuts[1]} of {cuts[0]}",
        "; ".join(sorted({run.invalid for run in runs if run.invalid})) or "-",
    ]


def main() -> int:
    """Measure, and print a table; 1 when Locust's median error is beyond the target."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=150)
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    table = Table(
        *("driver", "n", "TTFT error p50 ms", "p95 ms", "sent/s", "streams"),
        *("lag p50/p99 ms", "cut", "invalid"),
    )
    ways = list(senders(given.processes))
    runs: dict[str, list[Found]] = {sender.name: [] for sender in ways}
    with tempfile.TemporaryDirectory(prefix="phase5-bench-") as name:
        for number in range(given.rounds):
            for sender in ways:
                folder = Path(name) / f"{sender.name}-{number}"
                runs[sender.name].append(measured(sender, given.rate, given.requests, folder))
        for sender in ways:
            cuts = cuts_counted(sender, Path(name) / f"{sender.name}-cut")
            table.add_row(*row(sender, runs[sender.name], cuts))
    Console(width=160).print(table)
    bad = [
        name for name, those in runs.items()
        if median(error for run in those for error in run.errors) > TARGET
    ]  # fmt: skip
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
