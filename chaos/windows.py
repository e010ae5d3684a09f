"""How service was: rates and times of each phase, and when it was good again. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import floor, isfinite
from typing import Any, Final

from chaos.experiment import Steady
from gates.evidence import Outcome, Sample
from gates.statistics import Interval, quantile, quantile_interval, rate_interval

#: Of each bound.
CONFIDENCE: Final = 0.95

#: The quartile by which phases are compared.
_LOWER: Final = 0.25

#: Fewer requests say nothing about how service was before the fault.
LEAST: Final = 5

ERRORS: Final = frozenset({Outcome.FAILED, Outcome.CUT})
_COUNTED: Final = ERRORS | {Outcome.OK}


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """How requests of a phase fared; times in seconds. Absent is None."""

    n: int
    outcomes: dict[str, int]
    error_rate: float | None
    error_interval: Interval | None
    ttft: dict[str, tuple[float, Interval]]  #: `p50` and `p95`

    def document(self) -> dict[str, Any]:
        """As JSON: an end that is not known is null."""
        errors = self.error_interval
        return {
            "n": self.n,
            "outcomes": self.outcomes,
            "error_rate": self.error_rate,
            "error_rate_interval": errors and ends(errors),
            "ttft_seconds": {
                name: {"value": value, "interval": ends(interval)}
                for name, (value, interval) in self.ttft.items()
            },
        }


def level(samples: Sequence[Sample]) -> Level:
    """The level of some requests."""
    outcomes = {o.value: sum(s.outcome is o for s in samples) for o in Outcome}
    counted = sum(s.outcome in _COUNTED for s in samples)
    errors = sum(s.outcome in ERRORS for s in samples)
    times = ttfts(samples)
    return Level(
        n=len(samples),
        outcomes={name: count for name, count in outcomes.items() if count},
        error_rate=errors / counted if counted else None,
        error_interval=rate_interval(errors, counted, CONFIDENCE) if counted else None,
        ttft={
            name: (quantile(times, share), quantile_interval(times, share, CONFIDENCE))
            for name, share in (("p50", 0.5), ("p95", 0.95))
            if times
        },
    )


def ttfts(samples: Iterable[Sample]) -> list[float]:
    """Times to the first token of requests that ended well."""
    return [s.ttft for s in samples if s.outcome is Outcome.OK and s.ttft is not None]


def unsteady(samples: Sequence[Sample], steady: Steady) -> Iterator[str]:
    """Why service was not steady; nothing when it was."""
    found = level(samples)
    if found.n < LEAST:
        yield f"{found.n} requests; needs {LEAST}"
    bad = found.n - found.outcomes.get(Outcome.OK.value, 0)
    if bad:
        yield f"{bad} of {found.n} requests did not end well"
    if found.ttft and found.ttft["p95"][0] > steady.ttft_seconds:
        yield f"P95 TTFT {found.ttft['p95'][0]:.3g} s > {steady.ttft_seconds:g} s"


def recovered_at(
    samples: Sequence[Sample], healed: float, until: float, steady: Steady
) -> float | None:
    """When service was back: good windows in a row, and nobody turned away behind them.

    Windows count from the end of the fault and hold the requests that were due in them. One
    without a request is not good, nor is one that was not watched to its end.
    """
    size = steady.window_seconds
    windows: list[list[Sample]] = [[] for _ in range(max(0, floor((until - healed) / size + 1e-9)))]
    for sample in samples:
        place = floor((sample.scheduled - healed) / size)
        # Whoever was still open when the run ended was cancelled by us.
        if 0 <= place < len(windows) and sample.outcome is not Outcome.CANCELLED:
            windows[place].append(sample)
    good = [_good(due, steady) for due in windows]
    for first in range(len(windows) - steady.windows + 1):
        behind = chain.from_iterable(windows[first:])
        if all(good[first : first + steady.windows]) and all(
            sample.outcome is Outcome.OK for sample in behind
        ):
            return healed + first * size
    return None


def _good(due: Sequence[Sample], steady: Steady) -> bool:
    if not due or any(sample.outcome is not Outcome.OK for sample in due):
        return False
    times = ttfts(due)
    return len(times) == len(due) and quantile(times, 0.95) <= steady.ttft_seconds


def shift(before: Sequence[Sample], during: Sequence[Sample]) -> tuple[float, Interval] | None:
    """By how much TTFT rose, with the widest interval that both phases allow.

    By the lower quartile: neighbours on the machine make some requests slow, and none fast.
    """
    old, new = ttfts(before), ttfts(during)
    if not old or not new:
        return None
    was, now = (quantile_interval(times, _LOWER, CONFIDENCE) for times in (old, new))
    rise = quantile(new, _LOWER) - quantile(old, _LOWER)
    return rise, Interval(now.low - was.high, now.high - was.low)


def ends(interval: Interval) -> list[float | None]:
    """Both ends; None where one is not known."""
    return [end if isfinite(end) else None for end in (interval.low, interval.high)]
