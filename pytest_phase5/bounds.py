"""`max=` and `min=` of the `slo` marker: quick local feedback on what a test recorded.

The judge decides with intervals; a bound looks at the point estimate of one test. It may be
tighter than `gates.yaml`, never looser. Its unit is that of the criterion's id: milliseconds
where it ends in `_ms`, else seconds for times, a share for rates, a ratio for comparisons.
"""

from collections.abc import Iterable, Sequence
from math import ceil
from typing import TYPE_CHECKING, Final

from gates.criteria import Criterion, Kind, Measure
from gates.samples import Outcome, Sample
from gates.units import SHARES
from pytest_phase5.markers import Slo

if TYPE_CHECKING:
    from pytest_phase5.recording import Evidence

_COMPARISONS: Final = frozenset({Kind.IMPROVEMENT, Kind.NON_INFERIORITY})
_ESTIMATED: Final = frozenset({Measure.ERROR_RATE, Measure.TTFT, Measure.LATENCY})
_FAILED: Final = frozenset({Outcome.FAILED, Outcome.CUT})
_COUNTED: Final = _FAILED | {Outcome.OK}


class SloBroken(AssertionError):  # noqa: N818 - reads as what happened
    """A test's own bound does not hold. The message carries both numbers and n."""


def bound_mistake(criterion: Criterion, mark: Slo) -> str | None:
    """Why a mark's bounds cannot serve, or None."""
    if criterion.measure not in _ESTIMATED:
        return f"slo({criterion.id!r}) has no number to bound; allowed: no max and no min"
    limit = _limit(criterion)
    if limit is None:
        return None
    allowed = f"{limit:g} {_unit(criterion)}"
    if mark.max is not None and criterion.kind is not Kind.FLOOR and mark.max > limit:
        return f"slo({criterion.id!r}, max={mark.max:g}) loosens; allowed: at most {allowed}"
    if mark.min is not None and criterion.kind is Kind.FLOOR and mark.min < limit:
        return f"slo({criterion.id!r}, min={mark.min:g}) loosens; allowed: at least {allowed}"
    return None


def check_bounds(criteria: Iterable[tuple[Criterion, Slo]], evidence: "Evidence") -> None:
    """Compare each bound with the estimate from the samples of a test.

    Raises:
        SloBroken: a bound does not hold, or nothing was recorded to hold it against.
    """
    samples = [sample for part in evidence.parts for sample in part.samples]
    for criterion, mark in criteria:
        value, n = estimate(criterion, samples)
        if value is None:
            raise SloBroken(f"{criterion.id}: nothing recorded to compare with a bound (n={n})")
        if mark.max is not None and value > mark.max:
            raise SloBroken(f"{criterion.id} {value:.6g} > {mark.max:g} (n={n})")
        if mark.min is not None and value < mark.min:
            raise SloBroken(f"{criterion.id} {value:.6g} < {mark.min:g} (n={n})")


def estimate(criterion: Criterion, samples: Sequence[Sample]) -> tuple[float | None, int]:
    """The point estimate in the unit of the criterion's id, and its number of samples."""
    treatment = [sample for sample in samples if sample.arm == "treatment"]
    value = _measured(criterion, treatment)
    if value is not None and criterion.kind in _COMPARISONS:
        control = _measured(criterion, [s for s in samples if s.arm == "control"])
        return (value / control if control else None), len(treatment)
    return (None if value is None else value * _scale(criterion)), len(treatment)


def _measured(criterion: Criterion, samples: Sequence[Sample]) -> float | None:
    if criterion.measure is Measure.ERROR_RATE:
        counted = [sample for sample in samples if sample.outcome in _COUNTED]
        return sum(s.outcome in _FAILED for s in counted) / len(counted) if counted else None
    return _quantile([_time(criterion, s) for s in samples], criterion.quantile or 0.5)


def _time(criterion: Criterion, sample: Sample) -> float:
    """A request that never got there took longer than any limit."""
    value = sample.ttft if criterion.measure is Measure.TTFT else sample.latency
    return float("inf") if value is None else value


def _quantile(values: list[float], share: float) -> float | None:
    """The smallest value that at least this share does not exceed."""
    return sorted(values)[max(ceil(share * len(values)), 1) - 1] if values else None


def _limit(criterion: Criterion) -> float | None:
    if criterion.kind in _COMPARISONS:
        return criterion.margin
    return None if criterion.limit is None else criterion.limit * _scale(criterion)


def _unit(criterion: Criterion) -> str:
    """In which unit a bound is read: whoever wrote `max=800` for seconds must see it."""
    if criterion.kind in _COMPARISONS:
        return "(a ratio)"
    if criterion.measure in SHARES:
        return "(a share of one)"
    return "(ms)" if criterion.id.endswith("_ms") else "(s)"


def _scale(criterion: Criterion) -> float:
    """Seconds become milliseconds where the id says so."""
    return 1000.0 if criterion.id.endswith("_ms") and criterion.kind not in _COMPARISONS else 1.0
