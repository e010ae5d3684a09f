"""One run: synthetic minutes through the very functions that judge live traffic."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from gates.criteria import Criterion, Measure
from gates.ledger import CLOSED_AFTER, Header, Unit
from gates.live_fold import LiveFold
from gates.live_judge import decisions
from gates.minutes import Minutes
from gates.simulation.scenarios import Scenario
from gates.simulation.traffic import FIRST_MINUTE, LATENCY_EDGES, TTFT_EDGES, Traffic, traffic
from gates.stages import Policy
from gates.verdict import Decision


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended."""

    decisions: Mapping[str, Decision]
    minute: int | None  #: of the rollback, from the start; None without one
    treated: float  #: the guilty flag's requests from when it went wrong to the rollback

    def rolled_back(self) -> frozenset[str]:
        """The flags that were."""
        return frozenset(f for f, d in self.decisions.items() if d is Decision.ROLLBACK)

    def promoted(self) -> frozenset[str]:
        """The flags that may be."""
        return frozenset(f for f, d in self.decisions.items() if d is Decision.PROMOTE)


def demanded(scenario: Scenario, policy: Policy) -> tuple[Criterion, ...]:
    """The live criteria that a promotion demands in a scenario."""
    if scenario.demands:
        return tuple(policy.criteria[name] for name in scenario.demands)
    return tuple(c for c in live(policy) if c.critical or c.measure is Measure.SOAK)


def live(policy: Policy) -> tuple[Criterion, ...]:
    """Every live criterion of a policy."""
    return tuple(c for c in policy.criteria.values() if c.source == "live")


def run(scenario: Scenario, policy: Policy, seed: tuple[int, ...]) -> Ended:
    """Draw a run and judge it at every minute.

    The first minute at which any look would find a flag to be rolled back is found by folding
    the whole run; what is then decided is decided by folding up to that minute only.
    """
    drawn = traffic(
        scenario.model,
        scenario.rates,
        scenario.length,
        scenario.change,
        np.random.default_rng(seed),
    )
    folds = _folded(scenario, policy, drawn, scenario.length)
    place = _first_break(folds)
    if place is not None:
        folds = _folded(scenario, policy, drawn, place + 1)
    length = scenario.length if place is None else place + 1
    decided = decisions(demanded(scenario, policy), live(policy), folds, _now(length))
    minute = place if Decision.ROLLBACK in decided.values() else None
    return Ended(decided, minute, _treated(scenario, drawn.minutes, length))


def _folded(scenario: Scenario, policy: Policy, drawn: Traffic, length: int) -> dict[str, LiveFold]:
    stage = policy.stages[scenario.stage]
    folds = {}
    for flag, minutes in drawn.minutes.items():
        fold = LiveFold.of(_header(flag, scenario), live(policy), stage)
        part = minutes.part(0, length)
        fold.ledger.count(part, drawn.cells_until(length))
        fold.take(part)
        folds[flag] = fold
    return folds


def _header(flag: str, scenario: Scenario) -> Header:
    treated = sum(rate for flags, rate in scenario.rates.items() if flag in flags)
    return Header(
        flag=flag,
        epoch=1,
        stage=scenario.stage,
        share=treated / sum(scenario.rates.values()),
        unit=Unit.KEY,
        commit="simulated",
        config_sha256="simulated",
        ttft_edges=TTFT_EDGES,
        latency_edges=LATENCY_EDGES,
    )


def _first_break(folds: Mapping[str, LiveFold]) -> int | None:
    """The first minute at which a critical criterion is broken, from the start."""
    broken = [
        watch.broken[0]
        for fold in folds.values()
        for watch in fold.watches.values()
        if watch.criterion.critical and watch.broken
    ]
    fired = [b.fired for fold in folds.values() for b in fold.backstops.values() if b.fired]
    first = min([*broken, *fired], default=None)
    return None if first is None else first - FIRST_MINUTE


def _treated(scenario: Scenario, minutes: Mapping[str, Minutes], length: int) -> float:
    guilty = next(iter(scenario.guilty), next(iter(minutes)))
    return float(minutes[guilty].treatment.n[scenario.change.since : length].sum())


def _now(length: int) -> datetime:
    return datetime.fromtimestamp((FIRST_MINUTE + length) * 60 + CLOSED_AFTER, UTC)
