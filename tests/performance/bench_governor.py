"""What the adaptive governor does under overload: goodput with it, without it, and at best.

    ./dev run python tests/performance/bench_governor.py [--rounds 4] [--sweep 8 16 32 64 100]

Every engine is `phase5 serve --model tiny` with a queue of 200. The open-loop generator asks for
twice the capacity, which a closed loop has just measured. Rounds interleave (A B B A): each is a
stretch that does not count, in which the queue fills, and one that does. *Goodput* is answers
whose first token came within 550 ms of their scheduled time, a second. The ratio of two rounds
next to each other is one observation; intervals are Student's on logarithms.

The static limits of the sweep are the governor with both bounds set to one number, so that they
shed as it does and differ in nothing but the limit. Half of the capacity is taken away by stopping
the runtime's process for every other `DUTY_SECONDS`.

The runtime has the first core and everything else the second one, so that the engine and not
the generator is what saturates. Prints one JSON object; progress goes to standard error.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from math import exp, log, sqrt
from pathlib import Path
from typing import Any

import httpx
import psutil

from gates.samples import Outcome, Sample
from pytest_phase5.load.driver import run_plan
from pytest_phase5.load.plan import Block, Plan
from pytest_phase5.load.plans import open_loop
from pytest_phase5.load.workload import Workload, requests

TTFT_LIMIT = 0.550
OVERLOAD = 2.0
#: Much to read and some to write: the model works, and front end and generator rest.
WORKLOAD = Workload(name="governor", words=(100, 200), tokens=(32, 32))
#: The runtime is stopped and goes on for so long in turn: well below the limit for TTFT.
DUTY_SECONDS = 0.015
#: The generator shares its core with the front end, so it may be late by a twentieth of the limit.
LAG_LIMIT = 0.05
#: Two-sided 95 % quantiles of Student's t, by degrees of freedom.
T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13)


@dataclass
class Engine:
    """A running engine, and the limits that it was seen to have."""

    url: str
    runtime: int
    limits: list[int] = field(default_factory=list)

    def status(self) -> dict[str, Any]:
        """`/v1/status`."""
        document: dict[str, Any] = httpx.get(f"{self.url}/v1/status", timeout=30).json()
        return document

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note the limit every second."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(1.0):
                self.limits.append(self.status()["limit"])

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@contextmanager
def serving(flags: str, yaml: str = "") -> Iterator[Engine]:
    """An engine whose runtime has the first core to itself."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "runtime.yaml"
        config.write_text(f"admission: {{queue: 200}}\n{yaml}")
        command = [sys.executable, "-P", "-m", "pytest_phase5.cli", "serve", "--model=tiny"]
        with subprocess.Popen(
            [*command, "--port=0", f"--config={config}", f"--flags={flags}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdout is not None
            url = process.stdout.readline().split()[1]
            (runtime,) = psutil.Process(process.pid).children()
            for thread in Path(f"/proc/{runtime.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {0})
            try:
                yield Engine(url, runtime.pid)
            finally:
                process.terminate()


@contextmanager
def halved(runtime: int) -> Iterator[None]:
    """Let a process run half of the time."""
    over = threading.Event()

    def cycle() -> None:
        while not over.wait(DUTY_SECONDS):
            os.kill(runtime, signal.SIGSTOP)
            time.sleep(DUTY_SECONDS)
            os.kill(runtime, signal.SIGCONT)

    thread = threading.Thread(target=cycle)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@dataclass(frozen=True)
class Round:
    """What came of a stretch."""

    goodput: float
    completed: float
    shed: float
    lost: int
    ttft_p95: float | None
    limit: int
    valid: str


class Bench:
    """Runs stretches, each in a folder of its own."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder = folder
        self._options = options
        self._numbers = count()

    def capacity(self, engine: Engine) -> float:
        """Answers a second in a closed loop as wide as the limit."""
        streams, each = 50, self._options.capacity_requests
        asked = requests(WORKLOAD, streams * (each + 1), next(self._numbers))
        blocks = (
            Block(arm="control", requests=asked[:streams], concurrency=streams, warmup=True),
            Block(arm="control", requests=asked[streams:], concurrency=streams),
        )
        plan = Plan(targets={"control": engine.url}, blocks=blocks, closed=True, lag_limit=9.0)
        samples = self._run(plan)[0]
        ends = sorted(sample.end for sample in samples if sample.end is not None)
        # Before the first end the loop has not come to its pace; the last ones run beside fewer.
        whole = ends[: -streams // 2]
        return (len(whole) - 1) / (whole[-1] - whole[0])

    def overload(self, engine: Engine, rate: float, seconds: float, settle: float) -> Round:
        """A stretch at this rate."""
        plan = open_loop(
            engine.url,
            rate=rate,
            requests=round(rate * seconds),
            warmup=round(rate * settle),
            seed=next(self._numbers),
            workload=WORKLOAD,
            lag_limit=LAG_LIMIT,
        )
        with engine.watched():
            samples, why = self._run(plan)
        began = min(sample.scheduled for sample in samples)
        span = max(sample.scheduled for sample in samples) - began
        firsts = sorted(sample.ttft for sample in samples if sample.ttft is not None)
        served = [sample for sample in samples if sample.outcome is Outcome.OK]
        return Round(
            goodput=sum((one.ttft or TTFT_LIMIT) <= TTFT_LIMIT for one in served) / span,
            completed=len(served) / span,
            shed=sum(one.status in {429, 503} for one in samples) / len(samples),
            lost=sum(one.outcome is not Outcome.OK and one.status == 200 for one in samples),
            ttft_p95=firsts[int(0.95 * len(firsts))] if firsts else None,
            limit=engine.limits[-1],
            valid=why,
        )

    def _run(self, plan: Plan) -> tuple[Sequence[Sample], str]:
        result = run_plan(plan, self._folder / str(next(self._numbers)))
        if not result.samples:
            sys.exit(f"no samples: {result.invalid_reason}")
        return result.samples, result.invalid_reason


def estimate(values: Sequence[float]) -> dict[str, Any]:
    """The geometric mean of ratios, with its 95 % interval."""
    logs = [log(max(value, 1e-9)) for value in values]
    mean = statistics.fmean(logs)
    found: dict[str, Any] = {"estimate": exp(mean), "n": len(values)}
    if len(logs) > 1:
        quantile = T95[len(logs) - 2] if len(logs) - 2 < len(T95) else 1.96
        half = quantile * statistics.stdev(logs) / sqrt(len(logs))
        found["interval"] = [exp(mean - half), exp(mean + half)]
    return found


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a command


def compare(
    bench: Bench,
    off: Engine,
    on: Engine,
    capacity: Callable[[], float],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Interleaved rounds of both arms, the capacity measured anew before each pair."""
    arms = {"off": off, "on": on}
    rounds: dict[str, list[Round]] = {"off": [], "on": []}
    capacities = []
    for turn in range(options.rounds):
        capacities.append(capacity())
        for name in ("off", "on") if turn % 2 == 0 else ("on", "off"):
            engine = arms[name]
            rate = OVERLOAD * capacities[-1]
            rounds[name].append(bench.overload(engine, rate, options.seconds, options.settle))
            say(f"  {name}: capacity {capacities[-1]:.1f}/s {rounds[name][-1]}")
    pairs = list(zip(rounds["on"], rounds["off"], capacities, strict=True))
    # Without a single answer in time a ratio has no value: half an answer is assumed.
    least = 0.5 / options.seconds
    return {
        "capacity_rps": estimate(capacities),
        "goodput_on_rps": estimate([on.goodput for on, _, _ in pairs]),
        "goodput_off_rps": estimate([max(off.goodput, least) for _, off, _ in pairs]),
        "on_over_off": estimate([on.goodput / max(off.goodput, least) for on, off, _ in pairs]),
        "on_over_capacity": estimate([on.goodput / each for on, _, each in pairs]),
        "on_over_off_completed": estimate([on.goodput / off.completed for on, off, _ in pairs]),
        "limits_on": [on.limit for on, _, _ in pairs],
        "rounds": {name: [vars(one) for one in found] for name, found in rounds.items()},
    }


def sweep(bench: Bench, on: Engine, rate: float, options: argparse.Namespace) -> dict[str, Any]:
    """The governor beside each static limit, one after the other."""
    table, ratios = {}, {}
    for limit in options.sweep:
        with serving("adaptive_governor", _bounds(limit, limit)) as static:
            before = bench.overload(on, rate, options.seconds, options.settle)
            there = bench.overload(static, rate, options.seconds, options.settle)
            after = bench.overload(on, rate, options.seconds, options.settle)
        table[limit] = there.goodput
        ratios[limit] = sqrt(before.goodput * after.goodput) / max(there.goodput, 1e-9)
        say(f"  static {limit}: {there.goodput:.1f}/s, governor / static {ratios[limit]:.3f}")
    best = max(table, key=lambda limit: table[limit])
    return {
        "goodput_rps": table,
        "governor_over_static": ratios,
        "best_limit": best,
        "governor_over_best": ratios[best],
    }


def _bounds(low: int, high: int) -> str:
    return f"governor: {{min_limit: {low}, max_limit: {high}}}\n"


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything."""
    os.sched_setaffinity(0, range(1, os.cpu_count() or 2))
    report: dict[str, Any] = {"model": "tiny", "load_before": os.getloadavg()}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(folder, options)
        off = stack.enter_context(serving("off"))
        on = stack.enter_context(serving("adaptive_governor"))
        capacity = bench.capacity(off)
        say(f"capacity {capacity:.1f}/s; {options.governor_seconds:.0f} s for the governor")
        bench.overload(on, OVERLOAD * capacity, 5, options.governor_seconds)
        report["full"] = compare(bench, off, on, lambda: bench.capacity(off), options)
        if options.sweep:
            report["sweep"] = sweep(bench, on, OVERLOAD * capacity, options)
        say("half of the capacity")
        before = len(on.limits)
        with halved(off.runtime), halved(on.runtime):
            half = bench.capacity(off)
            bench.overload(on, OVERLOAD * half, 5, options.governor_seconds)
            report["halved"] = compare(bench, off, on, lambda: bench.capacity(off), options)
        report["limits"] = {"full": on.limits[:before], "halved": on.limits[before:]}
        report["governor"] = on.status()["governor"]
    report["load_after"] = os.getloadavg()
    return report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=4, help="pairs of rounds")
    parser.add_argument("--seconds", type=float, default=8, help="of a round that count")
    parser.add_argument("--settle", type=float, default=6, help="of a round that do not")
    parser.add_argument("--governor-seconds", type=float, default=30, help="to find its limit")
    parser.add_argument("--capacity-requests", type=int, default=4, help="for each stream")
    parser.add_argument("--sweep", type=int, nargs="*", default=[8, 16, 32, 64, 100])
    print(json.dumps(measure(parser.parse_args()), indent=1))  # noqa: T201 - the result


if __name__ == "__main__":
    main()
