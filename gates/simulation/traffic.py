"""Synthetic live traffic, minute by minute, of several flags that are assigned independently.

The models E1 to E6 go from independent requests to what real fleets do: a common drift over the
day, noise of each arm's hosts, bursts of errors that hit everybody.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import erf, log, pi, sqrt
from typing import Final

import numpy as np
from numpy.random import Generator

from engine.core.flags import FlagSet, flag_set_name
from gates.eprocess import Array, Numbers
from gates.histogram import beyond
from gates.minutes import Columns, Minutes

#: Upper edges of the engine's histograms, seconds. A test holds them to the engine's own.
TTFT_EDGES: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.7),
    *(0.8, 1.0, 1.2, 1.6, 2.5, 5.0, 10.0, 30.0),
)
LATENCY_EDGES: Final = (
    *(0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.55, 0.6, 0.8, 1.0, 1.2, 1.6),
    *(2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0),
)

#: Seconds: the control's P95, under the limit of 0.55 and not far from it.
CONTROL_P95: Final = 0.5

#: The day of every run begins here; any minute would do.
FIRST_MINUTE: Final = 29_000_000

#: The limit beyond which a first token counts as late in the cells, seconds.
_LATE: Final = 0.55

_DAY: Final = 1440

#: Minutes between two bursts, at least.
_APART: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """How sound traffic behaves."""

    name: str
    errors: float = 0.0  #: share of requests that fail
    drift: float = 0.0  #: standard deviation of log times that all arms share
    daily: float = 0.0  #: amplitude of log times over the day
    noise: tuple[float, float] = (0.0, 0.0)  #: of log times, of treatment and control alone
    bursts: str = ""  #: `both` or `treatment`: one each half day, of 1 to 3 minutes, 5 % errors


_E2: Final = Model(name="E2", errors=0.0002, drift=0.08, daily=0.10)

MODELS: Final = {
    "E1": Model(name="E1"),
    "E2": _E2,
    "E3": Model(name="E3", errors=0.0002, drift=0.08, daily=0.10, noise=(0.03, 0.015)),
    "E4": Model(
        name="E4", errors=0.0002, drift=0.08, daily=0.10, noise=(0.03, 0.015), bursts="both"
    ),
    "E5": Model(
        name="E5", errors=0.0002, drift=0.08, daily=0.10, noise=(0.03, 0.015), bursts="treatment"
    ),
    "E6": Model(name="E6", errors=0.0002, drift=0.08, daily=0.10, noise=(0.08, 0.04)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is wrong, from some minute on."""

    errors: float | None = None  #: the share of requests that fail
    slower: float = 1.0  #: times are multiplied by this
    since: int = 0  #: minutes after the start
    flags: FlagSet | None = None  #: whose treatment it is about; None: every arm


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one run brought."""

    minutes: Mapping[str, Minutes]  #: by flag
    cells: Mapping[str, Array]  #: by flag set: n, bad, first tokens and late ones of each minute

    def cells_until(self, minutes: int) -> dict[str, list[int]]:
        """The cells' sums over the first minutes."""
        return {
            name: [int(total) for total in cell[:minutes].sum(axis=0)]
            for name, cell in self.cells.items()
        }


def traffic(
    model: Model, rates: Mapping[FlagSet, float], length: int, change: Change, rng: Generator
) -> Traffic:
    """Draw a run.

    Args:
        model: of sound traffic.
        rates: requests a minute of each flag set, on the day's average.
        length: minutes.
        change: what is wrong.
        rng: of this run alone.
    """
    flags = sorted({flag for name in rates for flag in name})
    common = _common(model, length, rng)
    noise = {
        (flag, on): _related(length, 0.8, model.noise[not on], rng)
        for flag in flags
        for on in (True, False)
    }
    drawn: dict[FlagSet, Columns] = {}
    for name, rate in sorted(rates.items(), key=lambda item: flag_set_name(item[0])):
        own = sum((noise[flag, flag in name] for flag in flags), np.zeros(length))
        affected = change.flags is None or bool(change.flags & name)
        spared = model.bursts == "treatment" and not name
        drawn[name] = _cell(
            rate,
            replace(common, bursts=np.zeros(length)) if spared else common,
            own,
            change if affected else Change(),
            rng,
        )
    return Traffic(
        {flag: _minutes(flag, drawn, length) for flag in flags},
        {flag_set_name(name): _four(columns) for name, columns in drawn.items()},
    )


@dataclass(frozen=True, slots=True)
class _Common:
    errors: float
    load: Array
    times: Array
    bursts: Array


def _common(model: Model, length: int, rng: Generator) -> _Common:
    day = 2 * pi * (np.arange(length) / _DAY + rng.random())
    times = model.daily * np.sin(day) + _related(length, 0.95, model.drift, rng)
    bursts = np.zeros(length)
    for half in range(0, length if model.bursts else 0, _DAY // 2):
        # Apart from each other: two in a row would be an outage of five minutes, and no burst.
        begin = half + rng.integers(0, _DAY // 2 - _APART)
        bursts[begin : begin + rng.integers(1, 4)] = 0.05
    return _Common(model.errors, 1 + 0.3 * np.sin(day), times, bursts)


def _cell(rate: float, common: _Common, noise: Array, change: Change, rng: Generator) -> Columns:
    length = len(noise)
    after = np.arange(length) >= change.since
    n = rng.poisson(rate * common.load)
    errors = np.where(after & (change.errors is not None), change.errors or 0.0, common.errors)
    bad = rng.binomial(n, np.maximum(errors, common.bursts))
    sound = common.times + noise
    ttft = _drawn(n, sound + np.where(after, log(change.slower), 0.0), TTFT_EDGES, 1.0, rng)
    latency = _drawn(n, sound, LATENCY_EDGES, _LATENCY_TIMES, rng)
    counts, none = n.astype(np.float64), np.zeros(length)
    return Columns(
        n=counts,
        bad=bad.astype(np.float64),
        keyed=bad.astype(np.float64),
        ended=counts,
        shed=none,
        early=none,
        assigned=counts,
        ttft=ttft,
        latency=latency,
    )


def _minutes(flag: str, drawn: Mapping[FlagSet, Columns], length: int) -> Minutes:
    return Minutes(
        minute=FIRST_MINUTE + np.arange(length),
        first=FIRST_MINUTE,
        treatment=_sum([columns for name, columns in drawn.items() if flag in name]),
        control=_sum([columns for name, columns in drawn.items() if flag not in name]),
    )


def _sum(cells: list[Columns]) -> Columns:
    return Columns(
        **{
            name: np.sum([getattr(cell, name) for cell in cells], axis=0)
            for name in Columns.__dataclass_fields__
        }
    )


def _four(columns: Columns) -> Array:
    late = columns.ttft @ beyond(TTFT_EDGES, _LATE)[1]
    return np.column_stack((columns.n, columns.bad, columns.ttft.sum(axis=1), late))


def _related(length: int, related: float, deviation: float, rng: Generator) -> Array:
    """A stationary autoregression of the first order."""
    if not deviation:
        return np.zeros(length)
    shocks = rng.normal(0, deviation * sqrt(1 - related**2), length)
    shocks[0] = rng.normal(0, deviation)
    # The kernel is cut where it has vanished; a loop over a month would take its time.
    kernel = related ** np.arange(min(length, int(log(1e-9) / log(related))))
    spectrum = 2 ** int(np.ceil(np.log2(length + len(kernel))))
    series = np.fft.irfft(np.fft.rfft(shocks, spectrum) * np.fft.rfft(kernel, spectrum), spectrum)
    return np.asarray(series[:length])


#: Times: nine in ten from one log-normal, the rest from a slower one; medians in milliseconds.
_PARTS: Final = ((0.9, log(260), 0.30), (0.1, log(420), 0.35))

#: Whole requests take so many times their first token.
_LATENCY_TIMES: Final = 6.0

#: The quantile that the requirements speak of.
_P95: Final = 0.95

#: The grid of scales in log units: finer than a minute's counts could tell.
_STEP: Final = 0.002
_WIDEST: Final = 2.5


def _drawn(
    n: Numbers, scale: Array, edges: tuple[float, ...], times: float, rng: Generator
) -> Array:
    table = _table(edges, times)
    place = np.clip(np.round((scale + _WIDEST) / _STEP), 0, len(table) - 1).astype(np.int64)
    return rng.multinomial(n, table[place]).astype(np.float64)


@lru_cache(maxsize=4)
def _table(edges: tuple[float, ...], times: float) -> Array:
    """For each scale the probability of each bucket."""
    scales = np.arange(-_WIDEST, _WIDEST + _STEP / 2, _STEP)
    base = log(CONTROL_P95) - _log_p95()
    ends = np.log(np.array(edges)) - log(times)
    below = _below(ends[None, :] - base - scales[:, None])
    whole = np.ones((len(scales), 1))
    chances = np.diff(np.hstack((0 * whole, below, whole)), axis=1)
    return np.asarray(chances / chances.sum(axis=1, keepdims=True))


def _below(x: Array) -> Array:
    normal = np.vectorize(lambda z: (1 + erf(z / sqrt(2))) / 2)
    parts = [weight * normal((x - mean) / sd) for weight, mean, sd in _PARTS]
    return np.asarray(np.sum(parts, axis=0))


def _log_p95() -> float:
    """The logarithm of the model's own P95, milliseconds, by bisection."""
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _below(np.array(middle)) >= _P95 else (middle, high)
    return high
