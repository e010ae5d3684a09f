"""What a part of a profile comes to: numbers with their intervals. Pure.

Quantiles are order statistics with exact intervals (95 % between both bounds); nothing is
assumed of the distribution, and a bound that so few requests cannot give is None. Requests
that did not end well have no time: they are counted, and rank in no quantile.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final

from gates.capacity import at_once
from gates.growth import leak
from gates.samples import Outcome, Sample
from gates.statistics import quantile, quantile_interval
from gates.trends import Trend
from gates.usage import ENGINE, Usage
from pytest_phase5.load.profiles import GOOD_TTFT
from pytest_phase5.load.steps import offered_of

SHARES: Final = (0.5, 0.95, 0.99)
#: Of each bound, so that both hold in 95 of 100 runs.
CONFIDENCE: Final = 0.975

#: The times by name. All count from when a request was due.
TIMES: Final[dict[str, Callable[[Sample], float | None]]] = {
    "ttft": lambda sample: sample.ttft,
    "tpot": lambda sample: sample.tpot,
    "longest_gap": lambda sample: sample.longest_gap,
    "latency": lambda sample: sample.latency,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantile:
    """One quantile in seconds, with its interval; an open end is None."""

    share: float
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one part of the engine used at most, or over the run; None: not told."""

    part: str
    cpu_seconds: float | None
    peaks: dict[str, int | None]
    growth: Trend | None  #: bytes of resident memory a request


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of one part, after its warm-up."""

    n: int
    outcomes: dict[str, int]
    seconds: float | None  #: from the first request that was due to the last end
    rate_achieved: float | None  #: requests sent a second
    completed_a_second: float | None
    goodput: float | None  #: requests a second that had their first token in time
    good_share: float | None  #: of those offered
    tokens_a_second: float | None
    peak_streams: int
    times: dict[str, tuple[Quantile, ...]]
    resources: tuple[Resources, ...]


def summarise(samples: Sequence[Sample], usage: Iterable[Usage] = ()) -> Summary:
    """The figures of samples that are to be judged, and of what was read beside them."""
    whole = [sample for sample in samples if sample.outcome is Outcome.OK]
    seconds = _seconds(samples)
    offered = offered_of(samples, GOOD_TTFT)
    good = sum(sample.ttft is not None and sample.ttft <= GOOD_TTFT for sample in whole)
    tokens = sum(sample.output_tokens or 0 for sample in whole)
    return Summary(
        n=len(samples),
        outcomes={o.value: c for o, c in Counter(s.outcome for s in samples).items()},
        seconds=seconds,
        rate_achieved=_rate(samples),
        completed_a_second=len(whole) / seconds if seconds else None,
        goodput=good / seconds if seconds else None,
        good_share=good / len(offered) if offered else None,
        tokens_a_second=tokens / seconds if seconds else None,
        peak_streams=peak_streams(samples),
        times={name: quantiles(_known(map(time, whole))) for name, time in TIMES.items()},
        resources=resources(usage),
    )


def quantiles(times: Sequence[float]) -> tuple[Quantile, ...]:
    """P50, P95 and P99 of some times; none of no times."""
    if not times:
        return ()
    ranked = sorted(times)
    return tuple(_quantile(ranked, share) for share in SHARES)


def peak_streams(samples: Iterable[Sample]) -> int:
    """The most streams that were open at once, from sending to end."""
    return at_once((sample.sent, sample.end) for sample in samples)


def resources(usage: Iterable[Usage]) -> tuple[Resources, ...]:
    """The peaks and the growth of each part that was read."""
    readings = list(usage)
    return tuple(_resources(part, readings) for part in sorted({r.part for r in readings}))


def _quantile(ranked: Sequence[float], share: float) -> Quantile:
    interval = quantile_interval(ranked, share, CONFIDENCE)
    low, high = (end if isfinite(end) else None for end in (interval.low, interval.high))
    return Quantile(share=share, value=quantile(ranked, share), low=low, high=high)


def _known(times: Iterable[float | None]) -> list[float]:
    return [time for time in times if time is not None]


def _seconds(samples: Sequence[Sample]) -> float | None:
    ends = _known(sample.end for sample in samples)
    return max(ends) - min(sample.scheduled for sample in samples) if ends else None


def _rate(samples: Sequence[Sample]) -> float | None:
    sent = _known(sample.sent for sample in samples)
    between = max(sent) - min(sent) if sent else 0.0
    return (len(sent) - 1) / between if between else None


_PEAKS: Final = (
    *("rss_bytes", "threads", "descriptors", "connections"),
    *("kv_bytes", "prefix_bytes", "device_bytes"),
)


def _resources(part: str, usage: Sequence[Usage]) -> Resources:
    readings = [reading for reading in usage if reading.part == part]
    spent = _known(reading.cpu_seconds for reading in readings)
    return Resources(
        part=part,
        cpu_seconds=spent[-1] - spent[0] if spent else None,
        peaks={name: _peak(getattr(reading, name) for reading in readings) for name in _PEAKS},
        growth=None if part == ENGINE else leak(usage, part, CONFIDENCE),
    )


def _peak(figures: Iterable[int | None]) -> int | None:
    return max((figure for figure in figures if figure is not None), default=None)
