"""All scenarios, many runs each, over several processes; what came out, beside what must."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from enum import StrEnum
from multiprocessing import get_context
from statistics import median
from typing import Final

from gates.simulation.operate import Ended, run
from gates.simulation.scenarios import SCENARIOS, Counts, Scenario
from gates.stages import Policy
from gates.statistics import at_least, quantile, rate_interval

#: Runs of each scenario, and days of the long ones, under `--fast`: enough to notice a judge
#: that is broken, too few to show what a good one does.
FAST_RUNS: Final = 12
FAST_MINUTES: Final = 2 * 24 * 60

#: Of intervals in the table, each end.
_CONFIDENCE: Final = 0.95

#: Runs in one task of a process: short enough for a bar that moves.
_CHUNK: Final = 5


class Standing(StrEnum):
    """How a measured number stands to its target."""

    MET = "met"
    CHANCE = "by chance"  #: beyond it, but so few runs may do that
    MISSED = "missed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One line of the table."""

    scenario: Scenario
    runs: int
    value: float | None  #: None when not one run gives it
    low: float
    high: float
    p90: float | None
    standing: Standing
    treated: tuple[float, ...]  #: of each run that rolled back, ascending


def study(
    policy: Policy,
    *,
    seed: int,
    fast: bool = False,
    only: str = "",
    jobs: int = 2,
    tick: Callable[[int, int], object] = max,
) -> list[Measured]:
    """Run scenarios.

    Args:
        policy: whose live criteria judge.
        seed: the same seed gives the same numbers, whatever the number of processes.
        fast: few and short runs.
        only: a part of the names of those wanted.
        jobs: processes.
        tick: told after each task how many of how many runs are done; nobody by default.

    Raises:
        ValueError: when no scenario has such a name, or the policy lacks what one demands.
    """
    chosen = [(i, s) for i, s in enumerate(SCENARIOS) if only.lower() in s.name.lower()]
    if not chosen:
        names = "; ".join(s.name for s in SCENARIOS)
        raise ValueError(f"no scenario is called {only!r}; allowed is a part of: {names}")
    lacking = {name for _, s in chosen for name in s.demands} - set(policy.criteria)
    if lacking:
        raise ValueError(f"the policy lacks the criteria {', '.join(sorted(lacking))}")
    wanted = {i: _shortened(s) if fast else s for i, s in chosen}
    ended = _all(wanted, policy, seed, jobs, tick)
    return [measured(scenario, ended[i]) for i, scenario in wanted.items()]


def measured(scenario: Scenario, ended: Sequence[Ended]) -> Measured:
    """What the runs of a scenario come to."""
    treated = tuple(sorted(e.treated for e in ended if _counted(scenario, e)))
    if scenario.counts is Counts.REQUESTS:
        return _median(scenario, len(ended), treated)
    if scenario.counts is Counts.MINUTES:
        return _slowest(scenario, ended, treated)
    hits = sum(_hit(scenario, e) for e in ended)
    interval = rate_interval(hits, len(ended), _CONFIDENCE)
    share = hits / len(ended)
    reachable = interval.high if scenario.at_least else interval.low
    return Measured(
        scenario=scenario,
        runs=len(ended),
        value=share,
        low=interval.low,
        high=interval.high,
        p90=None,
        standing=_standing(scenario, share, reachable),
        treated=treated,
    )


def _counted(scenario: Scenario, ended: Ended) -> bool:
    """Whether a rollback is one that was wanted, where something was wrong with a flag."""
    rolled = ended.rolled_back()
    return bool(rolled & scenario.guilty) if scenario.guilty else bool(rolled)


def _hit(scenario: Scenario, ended: Ended) -> bool:
    match scenario.counts:
        case Counts.PROMOTIONS:
            return bool(ended.promoted())
        case Counts.WRONG:
            return bool(ended.rolled_back() - scenario.guilty)
        case _:
            return bool(ended.rolled_back())


def _median(scenario: Scenario, runs: int, treated: Sequence[float]) -> Measured:
    """Runs without a rollback rank beyond all others, so they move the median."""
    missing = [float("inf")] * (runs - len(treated))
    ranked = [*treated, *missing]
    value = float(median(ranked)) if ranked else float("inf")
    # The sign test: ranks that the true median lies between.
    spread = next(
        k for k in range(runs // 2 + 1) if at_least(runs - k, runs, 0.5) > 1 - _CONFIDENCE
    )
    low, high = ranked[max(spread - 1, 0)], ranked[min(runs - spread, runs - 1)]
    known = value != float("inf")
    return Measured(
        scenario=scenario,
        runs=runs,
        value=value if known else None,
        low=low,
        high=high,
        p90=quantile(ranked, 0.9) if known else None,
        standing=_standing(scenario, value, low),
        treated=tuple(treated),
    )


def _slowest(scenario: Scenario, ended: Sequence[Ended], treated: tuple[float, ...]) -> Measured:
    """The slowest run must be in time, and none may be missing."""
    since = scenario.change.since
    minutes = [float("inf") if e.minute is None else e.minute - since + 1.0 for e in ended]
    slowest = max(minutes)
    return Measured(
        scenario=scenario,
        runs=len(ended),
        value=None if slowest == float("inf") else slowest,
        low=min(minutes),
        high=slowest,
        p90=quantile(minutes, 0.9),
        standing=_standing(scenario, slowest, slowest),
        treated=treated,
    )


def _standing(scenario: Scenario, value: float, reachable: float) -> Standing:
    sign = -1 if scenario.at_least else 1
    if sign * value <= sign * scenario.target:
        return Standing.MET
    return Standing.CHANCE if sign * reachable <= sign * scenario.target else Standing.MISSED


def _shortened(scenario: Scenario) -> Scenario:
    length = min(scenario.length, FAST_MINUTES) if scenario.long else scenario.length
    return replace(scenario, runs=FAST_RUNS, length=length)


def _all(
    wanted: dict[int, Scenario],
    policy: Policy,
    seed: int,
    jobs: int,
    tick: Callable[[int, int], object],
) -> dict[int, list[Ended]]:
    total, done = sum(s.runs for s in wanted.values()), 0
    parts: dict[tuple[int, int], list[Ended]] = {}
    # A fresh interpreter, since a forked one would share locks with threads of this one.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        tasks = {
            pool.submit(_several, s, policy, seed, i, range(begin, min(begin + _CHUNK, s.runs))): (
                i,
                begin,
            )
            for i, s in wanted.items()
            for begin in range(0, s.runs, _CHUNK)
        }
        for task in as_completed(tasks):
            parts[tasks[task]] = task.result()
            done += len(parts[tasks[task]])
            tick(done, total)
    return {
        i: [e for begin in range(0, s.runs, _CHUNK) for e in parts[i, begin]]
        for i, s in wanted.items()
    }


def _several(
    scenario: Scenario, policy: Policy, seed: int, index: int, runs: Iterable[int]
) -> list[Ended]:
    return [run(scenario, policy, (seed, index, each)) for each in runs]
