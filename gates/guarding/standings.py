"""How each flag and each live criterion stands, for Prometheus: what `phase5 status` reasons with.

What is shown is swapped as a whole, so a scrape never sees half of it, and a flag that is no
longer watched leaves nothing behind.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gates.criteria import Criterion, Measure, Outcome, worst
from gates.findings import Finding
from gates.guarding.situation import StoreView
from gates.live_fold import LiveFold
from gates.stages import STAGES, UNMANAGED
from gates.standing import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One criterion of one flag, its numbers in the unit of its reason; None where there are none.

    Attributes:
        evidence: the logarithm of the evidence that it is met, as a share of what a pass needs.
    """

    flag: str
    criterion: str
    outcome: Outcome
    estimate: float | None
    bounds: tuple[float, float] | None
    limit: float | None
    evidence: float | None


@dataclass(frozen=True, slots=True)
class Soak:
    """Minutes with valid evidence of a flag, and those that its stage must last."""

    flag: str
    minutes: int
    demanded: int


def shown(
    found_of: Mapping[Criterion, Iterable[Finding]], folds: Mapping[str, LiveFold]
) -> Iterator[Shown]:
    """How every criterion stands for every flag that is watched.

    Args:
        found_of: the findings about every criterion with source `live`.
        folds: by flag.
    """
    for criterion, findings in found_of.items():
        if criterion.measure is not Measure.SOAK:  # shown in minutes
            for flag, fold in folds.items():
                about = [f for f in findings if not f.flags or flag in f.flags]
                yield _shown(flag, criterion, fold, about)


def soaks(folds: Mapping[str, LiveFold]) -> Iterator[Soak]:
    """How long every flag that is watched has soaked."""
    for flag, fold in folds.items():
        yield Soak(flag, fold.ledger.valid, round(60 * fold.stage.soak_hours))


def _shown(flag: str, criterion: Criterion, fold: LiveFold, about: list[Finding]) -> Shown:
    numbers = next((f for f in about if f.estimate is not None), None)
    interval = numbers.interval if numbers else None
    watch = fold.watches.get(criterion.id)
    return Shown(
        flag=flag,
        criterion=criterion.id,
        outcome=worst(finding.outcome for finding in about),
        estimate=numbers.estimate if numbers else None,
        bounds=(interval.low, interval.high) if interval else None,
        limit=numbers.limit if numbers else None,
        evidence=watch.log_evidence_met / watch.threshold_met if watch else None,
    )


class StandingMetrics(Collector):
    """Holds what was shown last."""

    def __init__(self) -> None:
        self._flags: Mapping[str, Standing] = {}
        self._criteria: tuple[Shown, ...] = ()
        self._soaks: tuple[Soak, ...] = ()

    def read(self, store: StoreView | None) -> None:
        """The store was read; None while it never was."""
        self._flags = store.flags if store else {}

    def judged(self, criteria: Iterable[Shown], soaks: Iterable[Soak]) -> None:
        """The ledgers were judged."""
        self._criteria, self._soaks = tuple(criteria), tuple(soaks)

    def collect(self) -> Iterator[Metric]:
        """Read at the scrape."""
        yield from _of_flags(self._flags)
        yield from _of_soaks(self._soaks)
        yield from _of_criteria(self._criteria)


def _of_flags(flags: Mapping[str, Standing]) -> Iterator[Metric]:
    share = _gauge("flag_percentage", "Share that the store gives it", "flag")
    epoch = _gauge("flag_epoch", "Epoch in the store", "flag")
    stage = _gauge("flag_stage", "1 for the stage where it stands", "flag", "stage")
    for flag, standing in flags.items():
        share.add_metric((flag,), standing.percentage if standing.enabled else 0.0)
        epoch.add_metric((flag,), standing.epoch)
        for name in (*STAGES, UNMANAGED):
            stage.add_metric((flag, name), standing.stage == name)
    yield from (share, epoch, stage)


def _of_soaks(soaks: tuple[Soak, ...]) -> Iterator[Metric]:
    done = _gauge("soak_minutes", "Minutes with valid evidence at its stage", "flag")
    demanded = _gauge("soak_demanded_minutes", "Minutes that its stage must last", "flag")
    for soak in soaks:
        done.add_metric((soak.flag,), soak.minutes)
        demanded.add_metric((soak.flag,), soak.demanded)
    yield from (done, demanded)


def _of_criteria(criteria: tuple[Shown, ...]) -> Iterator[Metric]:
    labels = ("flag", "criterion")
    outcome = _gauge("criterion_outcome", "1 for how it stands", *labels, "outcome")
    bound = _gauge("criterion_bound", "Ends of its interval", *labels, "side")
    numbers = {
        "estimate": _gauge("criterion_estimate", "As measured", *labels),
        "limit": _gauge("criterion_limit", "What it is held against", *labels),
        "evidence": _gauge("criterion_evidence_ratio", "Evidence for a pass; 1 is enough", *labels),
    }
    for each in criteria:
        key = (each.flag, each.criterion)
        for possible in Outcome:
            outcome.add_metric((*key, possible.value), each.outcome is possible)
        for side, value in zip(("low", "high"), each.bounds or (), strict=False):
            bound.add_metric((*key, side), value)
        for name, family in numbers.items():
            if (value := getattr(each, name)) is not None:
                family.add_metric(key, value)
    yield from (outcome, bound, *numbers.values())


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"phase5_guard_{name}", text, labels=labels)
