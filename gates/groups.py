"""Grouping: what was measured together is judged together, and never mixed with the rest.

A group is one test, one model and one flag set (with its control). A criterion is as good
as its worst group: a good flag set does not make up for a bad one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from engine.core.flags import FlagSet, FlagSetError, parse_flag_set
from gates.criteria import Criterion, Measure
from gates.evidence import REPORT_ITEM, Check, Measurement
from gates.samples import Outcome, Sample

TREATMENT = "treatment"
CONTROL = "control"

#: Ends that count towards the error rate, and those of them that are errors.
_COUNTED = frozenset({Outcome.OK, Outcome.FAILED, Outcome.CUT})
_ERRORS = frozenset({Outcome.FAILED, Outcome.CUT})
#: Ends whose first token, if there was one, came as it does for everybody.
_TOLD = frozenset({Outcome.OK, Outcome.CANCELLED})


@dataclass(frozen=True, slots=True)
class Counts:
    """So many bad of so many."""

    bad: int
    n: int


@dataclass(frozen=True, slots=True)
class Group:
    """Sound measurements of one test, model and flag set."""

    item: str
    model: str
    flag_set: str
    control: str | None  #: the control's flag set, None when no control was measured
    measurements: tuple[Measurement, ...]

    @property
    def flags(self) -> FlagSet:
        """The flags that were on in the treatment arm."""
        return flags_of(self.flag_set)

    def samples(self, arm: str) -> Iterator[Sample]:
        """The samples of an arm."""
        for measurement in self.measurements:
            yield from (sample for sample in measurement.samples if sample.arm == arm)

    def checks(self) -> Iterator[Check]:
        """The checks of all measurements."""
        for measurement in self.measurements:
            yield from measurement.checks


def flags_of(flag_set: str) -> FlagSet:
    """The flags of a set by its name; none for a name that is not one."""
    try:
        return parse_flag_set(flag_set)
    except FlagSetError:
        return frozenset()


def treatment_flags(measurement: Measurement) -> FlagSet:
    """The flags that a measurement is about; none when it is about no engine."""
    engine = measurement.arms.get(TREATMENT)
    return flags_of(engine.flag_set) if engine else frozenset()


def grouped(measurements: Iterable[Measurement]) -> tuple[Group, ...]:
    """The groups of some measurements, in a fixed order."""
    groups: dict[tuple[str, str, str, str | None], list[Measurement]] = {}
    for measurement in measurements:
        groups.setdefault(_key(measurement), []).append(measurement)
    ordered = sorted(groups.items(), key=lambda entry: tuple(str(part) for part in entry[0]))
    return tuple(Group(*key, tuple(sorted(ms, key=lambda m: m.id))) for key, ms in ordered)


def error_counts(samples: Iterable[Sample]) -> Counts:
    """Errors among the requests that count."""
    ends = [sample.outcome for sample in samples if sample.outcome in _COUNTED]
    return Counts(sum(end in _ERRORS for end in ends), len(ends))


def hit_counts(samples: Iterable[Sample]) -> Counts | None:
    """Requests that found a part of their prompt read before (`bad`), of those that ended well.

    None where none says: an engine without a figure has not missed.
    """
    told = [s.cached_tokens for s in samples if s.outcome is Outcome.OK]
    known = [cached for cached in told if cached is not None]
    return Counts(sum(cached > 0 for cached in known), len(told)) if known else None


def lost_counts(samples: Iterable[Sample]) -> Counts:
    """Streams that were sent and neither ended nor were left by the client on purpose."""
    sent = [sample for sample in samples if sample.sent is not None]
    return Counts(sum(_lost(sample) for sample in sent), len(sent))


def seconds(sample: Sample, measure: Measure) -> float | None:
    """The time of a request; None when it did not end well: no such time is short.

    A client that left after its first token has had the time to it.
    """
    if measure is Measure.TTFT:
        return sample.ttft if sample.outcome in _TOLD else None
    return sample.latency if sample.outcome is Outcome.OK else None


def left_untimed(sample: Sample, measure: Measure) -> bool:
    """Whether the client left on purpose before its time could be told: TTFT, before any text."""
    return sample.outcome is Outcome.CANCELLED and seconds(sample, measure) is None


def times(samples: Iterable[Sample], measure: Measure, limit: float) -> list[float | None]:
    """The times that a limit in seconds can judge, in the order in which they were scheduled.

    A wait beyond the limit is an exceedance, however it ended. A client that left sooner is
    left out: nobody can say on which side of the limit its answer would have come.
    """
    return [
        seconds(sample, measure)
        for sample in in_order(samples)
        if not (left_untimed(sample, measure) and _waited_at_most(limit, sample))
    ]


def in_order(samples: Iterable[Sample]) -> list[Sample]:
    """Samples as they were scheduled."""
    return sorted(samples, key=lambda sample: (sample.block, sample.index))


def about(criterion: Criterion, measurement: Measurement) -> bool:
    """Whether a measurement is about a criterion: it says so, or is a report of other suites."""
    report = criterion.measure is Measure.SUITE and measurement.item.startswith(REPORT_ITEM)
    return criterion.id in measurement.criteria or report


def _lost(sample: Sample) -> bool:
    ended = sample.end is not None or sample.outcome is Outcome.CANCELLED
    return sample.outcome is Outcome.CUT or not ended


def _waited_at_most(limit: float, left: Sample) -> bool:
    """A client that does not say when it left may have waited for any time."""
    return left.latency is not None and left.latency <= limit


def _key(measurement: Measurement) -> tuple[str, str, str, str | None]:
    treatment, control = measurement.arms.get(TREATMENT), measurement.arms.get(CONTROL)
    return (
        measurement.item,
        treatment.model if treatment else "",
        treatment.flag_set if treatment else "off",
        control.flag_set if control else None,
    )
