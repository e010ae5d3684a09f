"""What the generator adds to the times that it measures, against the calibrated stub.

    ./dev run python tests/performance/bench_generator.py [--rate 150] [--rounds 5]

At 150 requests a second answers of two thirds of a second are 100 streams. The error is the
generator's time less what the stub did itself, by its own clock. Neighbours on the machine
only ever make it worse, so the best round stands beside the median of all.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table

from gates.samples import Outcome
from pytest_phase5.load.driver import run_plan
from pytest_phase5.load.plan import Driver
from pytest_phase5.load.plans import open_loop
from pytest_phase5.load.self_check import ANSWER, TOKENS, TTFT, compared
from pytest_phase5.load.stub_process import running_stub
from pytest_phase5.load.workload import Workload

#: The most that a median may be off by, in seconds.
LIMIT: Final = 0.005
ASKED: Final = Workload(name="bench", words=(8, 16), tokens=(TOKENS, TOKENS), model="ok")


def measured(driver: Driver, rate: int, seconds: int, folder: Path) -> dict[str, float]:
    """One round: errors in seconds, the rate that was sent, and counts."""
    folder.mkdir()
    gap = (ANSWER - TTFT) / (TOKENS - 1)
    with running_stub(folder / "stub.jsonl", ttft=TTFT, gap=gap) as stub:
        plan = open_loop(
            stub.url(), rate=rate, requests=rate * seconds, seed=1, workload=ASKED,
            schedule="constant", driver=driver, lag_limit=10.0,
        )  # fmt: skip
        result = run_plan(plan, folder / "run")
        found = compared(plan, result.samples, stub.seen())
    if found.failure or not result.valid:
        sys.exit(f"{driver}: {found.failure or result.invalid_reason}")
    sent = sorted(s.sent for s in result.samples if s.sent is not None)
    ends = sorted(s.end for s in result.samples if s.end is not None)
    lags = sorted(s.lag for s in result.samples if s.lag is not None)
    return {
        "ttft": found.ttft,
        "latency": found.latency,
        "lag": lags[int(0.99 * len(lags))],
        "rate": (len(sent) - 1) / (sent[-1] - sent[0]),
        "ok": sum(s.outcome is Outcome.OK for s in result.samples),
        "streams": max(sum(s <= at for s in sent) - sum(e <= at for e in ends) for at in sent),
        "connections": result.connections or 0,
    }


def main() -> None:
    """Measure and print; exit status 1 when the best round of a driver is beyond the limit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=int, default=150)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    table = Table("driver", "median TTFT error: best", "all rounds", "latency error: best",
                  "lag p99: best", "rate sent", "ok", "streams", "connections")  # fmt: skip
    beyond = False
    drivers: tuple[Driver, ...] = ("http1", "http2")
    rounds: dict[Driver, list[dict[str, float]]] = {driver: [] for driver in drivers}
    with tempfile.TemporaryDirectory() as name:
        for number in range(options.rounds):
            for driver in drivers:  # in turn, so that a noisy minute hits both
                folder = Path(name) / f"{driver}-{number}"
                rounds[driver].append(measured(driver, options.rate, options.seconds, folder))
    for driver, found in rounds.items():
        best = {key: min(row[key] for row in found) for key in ("ttft", "latency", "lag")}
        beyond = beyond or best["ttft"] > LIMIT
        ok = sum(row["ok"] for row in found)
        table.add_row(
            driver,
            *(f"{seconds * 1e3:.2f} ms" for seconds in (
                best["ttft"], median(row["ttft"] for row in found), best["latency"], best["lag"]
            )),
            f"{median(row['rate'] for row in found):.2f}/s of {options.rate}",
            f"{ok:.0f} of {options.rate * options.seconds * options.rounds}",
            f"{max(row['streams'] for row in found):.0f}",
            f"{max(row['connections'] for row in found):.0f}",
        )  # fmt: skip
    Console(width=140).print(table)
    sys.exit(int(beyond))


if __name__ == "__main__":
    main()
