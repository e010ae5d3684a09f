"""What the generator adds to the times that it measures: found out on a server that is known.

Before a run whose times are judged, the same driver asks the calibrated stub at the plan's
own rate, or number of streams, for a second or two. The stub writes down when each request
arrived, its first token left and its answer ended; whatever the generator measured beyond
that is its own error.

The *median* error counts: a self-check looks for a bias, such as a client that gathers
chunks. How late single requests were is checked in the run itself (dispatch lag), so here
a lag is only part of the error.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import ceil
from pathlib import Path
from statistics import median
from typing import Final

from gates.samples import Outcome, Sample
from pytest_phase5.load.plan import LAG_SHARE, Driver, Fleet, Plan
from pytest_phase5.load.plans import open_loop, streams
from pytest_phase5.load.stub_process import StubError, running_stub
from pytest_phase5.load.workload import Workload

#: Seconds of measurement. Noise of a machine is looked at over more than this by the run.
SECONDS: Final = 1.5
#: Requests that a median needs.
LEAST: Final = 20
#: Seconds of an answer: 150 requests a second then are 100 streams.
ANSWER: Final = 2 / 3
#: Seconds to its first token.
TTFT: Final = 0.03
TOKENS: Final = 16
#: A bias stays, a noisy second passes: so often it is looked at before it counts.
LOOKS: Final = 3
#: Carries out a plan in a folder; gives the samples, and why they are not valid.
CarryOut = Callable[[Plan, Path], tuple[Sequence[Sample], str]]


@dataclass(frozen=True, slots=True)
class Load:
    """What makes one self-check like another: who sends, and how hard."""

    driver: Driver
    closed: bool
    level: int  #: requests per second, or streams when closed
    processes: int = 1  #: that share it


@dataclass(frozen=True, slots=True)
class Calibration:
    """Median seconds that the generator added, and of how many requests; or why there are none."""

    ttft: float = 0.0
    latency: float = 0.0
    n: int = 0
    failure: str = ""

    def fault(self, limit: float) -> str | None:
        """Why times may not be judged by a limit (seconds), with both numbers; None if they may."""
        if self.failure:
            return f"self-check: {self.failure}"
        for name, error in (("TTFT", self.ttft), ("latency", self.latency)):
            if abs(error) > LAG_SHARE * limit:
                return (
                    f"self-check: {name} off by {error * 1e3:.1f} ms, allowed "
                    f"{LAG_SHARE * limit * 1e3:.1f} ms ({LAG_SHARE:.0%} of {limit * 1e3:g} ms, "
                    f"median, n={self.n})"
                )
        return None


def load_of(plan: Plan) -> Load:
    """The load of a plan at its height, or the part of it that one other machine has to bear."""
    if plan.closed:
        return Load(plan.driver, closed=True, level=max(b.concurrency for b in plan.blocks))
    due = sorted(shot.due for shot in chain.from_iterable(plan.shots()))
    level = _rounded(ceil(peak_rate(due) / max(1, plan.fleet.workers)))
    return Load(plan.driver, closed=False, level=level, processes=plan.fleet.processes)


def peak_rate(due: Sequence[float]) -> int:
    """The most requests that are due within any second."""
    first = most = 0
    for last, at in enumerate(due):
        while at - due[first] >= 1 - 1e-9:  # sums of gaps may be short of a second by a bit
            first += 1
        most = max(most, last - first + 1)
    return most


def _rounded(level: int) -> int:
    """Up to two digits, so that plans which differ in their seed need no check of their own."""
    step: int = max(1, 10 ** (len(str(level)) - 2))
    return ceil(level / step) * step


def calibrated(load: Load, limit: float, carry_out: CarryOut) -> Calibration:
    """Measure the stub under a load, until the error is within the limit or it was so thrice.

    Args:
        load: who sends, and how hard.
        limit: the smallest limit that is judged, in seconds.
        carry_out: runs a plan.
    """
    found = Calibration(failure="not measured")
    with tempfile.TemporaryDirectory(prefix="phase5-self-check-") as name:
        for look in range(LOOKS):
            found = _measured(load, carry_out, Path(name) / str(look))
            if found.fault(limit) is None:
                break
    return found


def _measured(load: Load, carry_out: CarryOut, folder: Path) -> Calibration:
    folder.mkdir()
    gap = (_answer(load) - TTFT) / (TOKENS - 1)
    try:
        with running_stub(folder / "stub.jsonl", ttft=TTFT, gap=gap) as stub:
            plan = _plan(load, stub.url())
            samples, invalid = carry_out(plan, folder / "run")
            seen = stub.seen()
    except StubError as error:
        return Calibration(failure=str(error))
    if invalid:
        return Calibration(failure=invalid)
    return compared(plan, samples, seen)


def compared(
    plan: Plan, samples: Sequence[Sample], seen: Mapping[str, Mapping[str, float]]
) -> Calibration:
    """The error of samples, beside what the stub has seen.

    Args:
        plan: of the run; its measured requests are those of the samples.
        samples: the run's.
        seen: the stub's times by key.
    """
    bad = next((s for s in samples if s.outcome is not Outcome.OK), None)
    if bad is not None:
        return Calibration(failure=f"the stub's answer {bad.index}: {bad.outcome} ({bad.error})")
    keys = [r.key for block in plan.blocks if not block.warmup for r in block.requests]
    ttft, latency = [], []
    for sample in samples:
        own = seen.get(keys[sample.index], {})
        if not {"arrived", "first", "ended"} <= own.keys():
            return Calibration(failure=f"the stub has not seen the end of request {sample.index}")
        ttft.append((sample.ttft or 0.0) - (own["first"] - own["arrived"]))
        latency.append((sample.latency or 0.0) - (own["ended"] - own["arrived"]))
    if not ttft:
        return Calibration(failure="no sample")
    return Calibration(median(ttft), median(latency), len(ttft))


def _answer(load: Load) -> float:
    """Seconds of an answer: shorter where few streams at a time have to bring enough of them."""
    return min(ANSWER, SECONDS * load.level / LEAST) if load.closed else ANSWER


def _plan(load: Load, url: str) -> Plan:
    workload = Workload(name="self-check", words=(8, 16), tokens=(TOKENS, TOKENS), model="ok")
    if load.closed:
        rounds = ceil(SECONDS / _answer(load))
        return streams(
            url,
            concurrency=load.level,
            requests=rounds * load.level,
            seed=0,
            workload=workload,
            lag_limit=SECONDS,
            driver=load.driver,
        )
    rate = max(load.level, ceil(LEAST / SECONDS))
    plan = open_loop(
        url,
        rate=rate,
        requests=ceil(rate * SECONDS),
        seed=0,
        workload=workload,
        lag_limit=SECONDS,
        driver=load.driver,
        warmup=ceil(rate * ANSWER),  # so that the measured ones meet all streams there are
    )
    return replace(plan, fleet=Fleet(processes=load.processes))
