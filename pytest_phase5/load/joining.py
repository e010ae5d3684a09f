"""Several runs of one part as one: on the clock of the first, numbered through. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gates.samples import Sample
from pytest_phase5.load.building import WARM_UP
from pytest_phase5.load.driver import LoadResult


@dataclass(frozen=True, slots=True)
class Run:
    """The result of one plan, and the moment of the monotonic clock that its times count from."""

    result: LoadResult
    origin: float


def joined(runs: Sequence[Run]) -> tuple[Sample, ...]:
    """All samples in order. Warm-ups keep their block; the others are numbered through."""
    return tuple(_joined(runs))


def _joined(runs: Sequence[Run]) -> Iterator[Sample]:
    index = block = 0
    for run in runs:
        later = run.origin - runs[0].origin
        for sample in run.result.samples:
            yield replace(
                _shifted(sample, later),
                index=sample.index + index,
                block=sample.block if sample.block == WARM_UP else sample.block + block,
            )
        index += len(run.result.samples)
        block = max((s.block for s in run.result.samples), default=0) + block


def _shifted(sample: Sample, later: float) -> Sample:
    times = {
        name: value + later
        for name in ("scheduled", "sent", "first_token", "end")
        if (value := getattr(sample, name)) is not None
    }
    return replace(sample, **times)
