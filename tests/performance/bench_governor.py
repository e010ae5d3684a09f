"""What the adaptive governor does under overload: goodput with it, without it, and at best.

    ./dev run python tests/performance/bench_governor.py compare|sweep [--halved]

Every engine is `phase5 serve --model tiny` with a queue of 200. The open-loop generator asks for
twice the capacity, which a closed loop has just measured. *Goodput* is answers whose first token
came within 550 ms of their scheduled time, a second. Each round is a stretch that does not count,
in which the queue fills, and one that does. The ratio of two rounds next to each other is one
observation; intervals are Student's on logarithms.

- `compare`: flag on against flag off, interleaved (A B B A);
- `sweep`: flag on beside static limits, each between two rounds of the governor; name a limit
  several times for an interval. A static limit is the governor with both bounds set to one
  number, so that it sheds as it does and differs in nothing but the limit.

With `--halved` half of the capacity is taken away, from engines that had found their limit, by
stopping the runtime's process for every other `DUTY_SECONDS`. Each takes under four minutes.

Prints one JSON object, with a row for each second of the governor's engine; progress goes to
standard error. See `overloaded` for what runs where.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from math import sqrt
from pathlib import Path
from typing import Any

from overloaded import Engine, halved, serving

from gates.samples import Outcome, Sample
from pytest_phase5.bench.ratios import estimate as paired_estimate
from pytest_phase5.load.driver import run_plan
from pytest_phase5.load.plan import Block, Plan
from pytest_phase5.load.plans import open_loop
from pytest_phase5.load.workload import Workload, requests

TTFT_LIMIT = 0.550
OVERLOAD = 2.0
#: Much to read and some to write: the model works, and front end and generator rest.
WORKLOAD = Workload(name="governor", words=(100, 200), tokens=(32, 32))
#: The generator shares its core with the front end, so it may be late by a twentieth of the limit.
LAG_LIMIT = 0.05


@dataclass(frozen=True)
class Round:
    """What came of a stretch."""

    goodput: float
    completed: float
    shed: float
    lost: int
    ttft_p95: float | None
    limit: int
    by_second: list[int]  #: answers in time, by the second in which they were due
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

    def overload(self, engine: Engine, rate: float, settle: float | None = None) -> Round:
        """A stretch at this rate, after one of `settle` seconds that does not count."""
        seconds = self._options.seconds
        settle = self._options.settle if settle is None else settle
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
        good = [one for one in served if (one.ttft or TTFT_LIMIT) <= TTFT_LIMIT]
        due = Counter(int(one.scheduled - began) for one in good)
        return Round(
            goodput=len(good) / span,
            completed=len(served) / span,
            shed=sum(one.status in {429, 503} for one in samples) / len(samples),
            lost=sum(one.outcome is not Outcome.OK and one.status == 200 for one in samples),
            ttft_p95=firsts[int(0.95 * len(firsts))] if firsts else None,
            limit=engine.limits[-1],
            by_second=[due[second] for second in range(round(seconds))],
            valid=why,
        )

    def _run(self, plan: Plan) -> tuple[Sequence[Sample], str]:
        result = run_plan(plan, self._folder / str(next(self._numbers)))
        if not result.samples:
            sys.exit(f"no samples: {result.invalid_reason}")
        return result.samples, result.invalid_reason


def estimate(values: Sequence[float]) -> dict[str, Any]:
    """The geometric mean of ratios, with its 95 % interval; nothing done counts as next to it."""
    found = paired_estimate([max(value, 1e-9) for value in values])
    told: dict[str, Any] = {"estimate": found.ratio, "n": len(values)}
    return told if found.low is None else {**told, "interval": [found.low, found.high]}


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a command


def compare(bench: Bench, off: Engine, on: Engine, options: argparse.Namespace) -> dict[str, Any]:
    """Interleaved rounds of both arms, the capacity measured anew before each pair."""
    arms = {"off": off, "on": on}
    rounds: dict[str, list[Round]] = {"off": [], "on": []}
    capacities = []
    for turn in range(options.rounds):
        capacities.append(bench.capacity(off))
        for name in ("off", "on") if turn % 2 == 0 else ("on", "off"):
            rounds[name].append(bench.overload(arms[name], OVERLOAD * capacities[-1]))
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
        "rounds": {name: [vars(one) for one in found] for name, found in rounds.items()},
    }


def sweep(bench: Bench, off: Engine, on: Engine, options: argparse.Namespace) -> dict[str, Any]:
    """Rounds of the governor, and one of each static limit between two of them.

    A limit that is named several times is measured as often: of single rounds, the best is the
    luckiest.
    """
    rate = OVERLOAD * bench.capacity(off)
    before = bench.overload(on, rate)
    table: dict[int, list[float]] = {}
    ratios: dict[int, list[float]] = {}
    for limit in options.limits:
        with ExitStack() as stack:
            static = stack.enter_context(serving("adaptive_governor", _bounds(limit, limit)))
            if options.halved:
                stack.enter_context(halved(static.runtime))
            there = bench.overload(static, rate)
        after = bench.overload(on, rate)
        ratio = sqrt(before.goodput * after.goodput) / max(there.goodput, 1e-9)
        table.setdefault(limit, []).append(there.goodput)
        ratios.setdefault(limit, []).append(ratio)
        say(f"  static {limit}: {there}, governor / static {ratio:.3f}, {after}")
        before = after
    best = min(ratios, key=lambda limit: estimate(ratios[limit])["estimate"])
    return {
        "offered_rps": rate,
        "goodput_rps": table,
        "governor_over_static": {limit: estimate(found) for limit, found in ratios.items()},
        "best_limit": best,
        "governor_over_best": estimate(ratios[best]),
    }


def _bounds(low: int, high: int) -> str:
    return f"governor: {{min_limit: {low}, max_limit: {high}}}\n"


#: What is measured: `compare` or `sweep`.
Part = Callable[[Bench, Engine, Engine, argparse.Namespace], dict[str, Any]]


def measure(part: Part, options: argparse.Namespace) -> dict[str, Any]:
    """One part, from engines that have found their limit."""
    os.sched_setaffinity(0, range(1, os.cpu_count() or 2))
    report: dict[str, Any] = {"model": "tiny", "load_before": os.getloadavg()}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(folder, options)
        off = stack.enter_context(serving("off"))
        on = stack.enter_context(serving("adaptive_governor"))
        capacity = bench.capacity(off)
        say(f"capacity {capacity:.1f}/s")
        bench.overload(on, OVERLOAD * capacity, settle=options.settle_first)
        report["halved_at"] = len(on.seconds)
        if options.halved:
            stack.enter_context(halved(off.runtime))
            stack.enter_context(halved(on.runtime))
            capacity = bench.capacity(off)
            say(f"half of the capacity: {capacity:.1f}/s")
            bench.overload(on, OVERLOAD * capacity, settle=options.settle_first)
        report["measured_from"] = len(on.seconds)
        report |= part(bench, off, on, options)
        report["limits"], report["seconds"] = on.limits, on.seconds
        report["governor"] = on.status()["governor"]
    report["load_after"] = os.getloadavg()
    return report


def main() -> None:
    """Measure and print."""
    parts: dict[str, Part] = {"compare": compare, "sweep": sweep}
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=parts)
    parser.add_argument("--halved", action="store_true", help="with half of the capacity")
    parser.add_argument("--rounds", type=int, default=4, help="pairs of rounds")
    parser.add_argument("--seconds", type=float, default=8, help="of a round that count")
    parser.add_argument("--settle", type=float, default=5, help="of a round that do not")
    parser.add_argument("--settle-first", type=float, default=60, help="to find the limit")
    parser.add_argument("--capacity-requests", type=int, default=4, help="for each stream")
    parser.add_argument("--limits", type=int, nargs="*", default=[8, 16, 24, 32, 64])
    options = parser.parse_args()
    print(json.dumps(measure(parts[options.part], options), indent=1))  # noqa: T201 - the result


if __name__ == "__main__":
    main()
