"""Service levels over a sliding window: is each kept, violated, or unknown?"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final, Literal

from engine.core.measures import METRICS, Measurement, Tally
from engine.core.registry import StreamEvent
from engine.core.slices import Slices

Severity = Literal["warning", "critical"]

#: `pending`: on the bad side, but not yet for as long as a violation needs.
SloState = Literal["no_data", "ok", "pending", "violated"]

#: What a look changed.
Edge = Literal["violated", "recovered"]

#: The value by which a violation is over is the limit itself, unless the policy says more.
_AT_ONCE: Final = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """A ceiling (`max`) or a floor (`min`) on a metric.

    Attributes:
        recovery: a violation is over at this value; None: at the limit.
        violation_seconds: how long the value is bad before that is a violation.
        recovery_seconds: how long it is good before the violation is over.
        window_seconds, min_samples: None: the monitor's.

    Raises:
        ValueError: the recovery is on the bad side of the limit.
    """

    name: str
    metric: str
    max: float | None = None
    min: float | None = None
    severity: Severity = "warning"
    recovery: float | None = None
    violation_seconds: float = _AT_ONCE
    recovery_seconds: float = _AT_ONCE
    window_seconds: float | None = None
    min_samples: int | None = None

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(
                f"SLO {self.name!r}: unknown metric {self.metric!r}; allowed: {', '.join(METRICS)}"
            )
        if (self.max is None) == (self.min is None):
            raise ValueError(f"SLO {self.name!r} needs exactly one of max and min")
        if self.recovery is not None and not self.kept(self.recovery):
            raise ValueError(
                f"SLO {self.name!r}: recovery {self.recovery:g} is on the bad side of "
                f"{self.limit:g}"
            )

    @property
    def limit(self) -> float:
        """The bound, whichever side it is on."""
        return next(bound for bound in (self.max, self.min) if bound is not None)

    def kept(self, value: float) -> bool:
        """Whether a value is on the good side. The bound itself is good."""
        return self._good(value, self.limit)

    def recovered(self, value: float) -> bool:
        """Whether a value ends a violation."""
        return self._good(value, self.limit if self.recovery is None else self.recovery)

    def gain(self, before: float, after: float) -> float:
        """How much better a value became, as a share of the first; below 0 it became worse."""
        change = before - after if self.max is not None else after - before
        if change == 0:
            return 0.0
        return change / abs(before) if before else change * inf

    def _good(self, value: float, bound: float) -> bool:
        return value <= bound if self.max is not None else value >= bound


@dataclass(frozen=True, slots=True)
class SloStatus:
    """One SLO at one moment. `value` is None when there is nothing to measure.

    `active`: a violation that has not ended, also while nothing is heard of it.
    """

    name: str
    metric: str
    value: float | None
    n: int
    state: SloState
    limit: float
    active: bool = False
    edge: Edge | None = None


class QosEvaluator:
    """One SLO over time: when a violation begins, and when it ends.

    It begins when the value is bad at every look for `violation_seconds`, and ends when it is
    good, by the stricter `recovery`, at every look for `recovery_seconds`. Too few streams are
    neither: they begin nothing, end nothing, and interrupt nothing.
    """

    def __init__(self, slo: Slo, min_samples: int) -> None:
        self.slo = slo
        self.active = False
        self.violations = 0
        self.recoveries = 0
        self._min_samples = slo.min_samples or min_samples
        self._turning: float | None = None  # since when the value speaks for a change

    def enough(self, measured: Measurement | None) -> bool:
        """Whether enough streams stand behind a value to believe it."""
        return measured is not None and measured.n >= self._min_samples

    def judge(self, measured: Measurement | None, now: float) -> SloStatus:
        """Take a look."""
        slo, edge = self.slo, None
        state: SloState = "no_data"
        if measured is not None and self.enough(measured):
            edge = self._turn(measured.value, now)
            state = self._state()
        value, n = (None, 0) if measured is None else (measured.value, measured.n)
        return SloStatus(slo.name, slo.metric, value, n, state, slo.limit, self.active, edge)

    def _state(self) -> SloState:
        if self.active:
            return "violated"
        return "ok" if self._turning is None else "pending"

    def _turn(self, value: float, now: float) -> Edge | None:
        turns = self.slo.recovered(value) if self.active else not self.slo.kept(value)
        if not turns:
            self._turning = None
            return None
        if self._turning is None:
            self._turning = now
        slo = self.slo
        if now - self._turning < (slo.recovery_seconds if self.active else slo.violation_seconds):
            return None
        self._turning, self.active = None, not self.active
        self.violations += self.active
        self.recoveries += not self.active
        return "violated" if self.active else "recovered"


@dataclass(slots=True)
class _Trial:
    """A sum over the streams that began after something was done."""

    since: float
    tally: Tally


@dataclass(frozen=True, slots=True)
class _Watched:
    evaluator: QosEvaluator
    window: Slices[Tally]

    def fresh(self) -> Tally:
        return _tally(self.evaluator.slo)


class QosMonitor:
    """Evaluates SLOs over the streams that ended in the last `window_s` seconds.

    Fewer than `min_samples` streams are `no_data`, which is neither kept nor violated: a
    violation lasts through silence until the SLO is seen kept again. Memory is bounded, however
    many streams there are.

    Raises:
        ValueError: two SLOs have one name.
    """

    def __init__(self, policies: Iterable[Slo], window_s: float, min_samples: int) -> None:
        slos = tuple(policies)
        names = Counter(slo.name for slo in slos)
        if doubles := [name for name, times in names.items() if times > 1]:
            raise ValueError(f"SLO names must differ; given more than once: {', '.join(doubles)}")
        self._watched = {slo.name: _watch(slo, window_s, min_samples) for slo in slos}
        self._trials: dict[str, _Trial] = {}
        self.observed = 0

    @property
    def violations_total(self) -> Mapping[str, int]:
        """For each SLO, how often it went from not violated to violated."""
        return {name: each.evaluator.violations for name, each in self._watched.items()}

    @property
    def recoveries_total(self) -> Mapping[str, int]:
        """For each SLO, how often it went from violated to kept."""
        return {name: each.evaluator.recoveries for name, each in self._watched.items()}

    def slo(self, name: str) -> Slo:
        """One of them."""
        return self._watched[name].evaluator.slo

    def observe(self, event: StreamEvent) -> None:
        """Take in the end of a stream, good or bad: rates need both."""
        self.observed += 1
        for each in self._watched.values():
            each.window.current(event.now).observe(event)
        for trial in self._trials.values():
            if event.now - event.duration >= trial.since:
                trial.tally.observe(event)

    def evaluate(self, now: float) -> list[SloStatus]:
        """Every SLO over the window that ends now, in the order of the policies."""
        return [
            each.evaluator.judge(_sum(each.fresh(), each.window.live(now)), now)
            for each in self._watched.values()
        ]

    # What a remediation did is judged by the streams that began after it.

    def begin_trial(self, name: str, now: float) -> None:
        """From now on, measure an SLO also on the streams that begin after `now`."""
        self._trials[name] = _Trial(now, self._watched[name].fresh())

    def trial(self, name: str) -> float | None:
        """What its trial measured; None without one, or before enough streams have ended."""
        trial = self._trials.get(name)
        measured = trial.tally.measure() if trial else None
        enough = self._watched[name].evaluator.enough(measured)
        return measured.value if measured is not None and enough else None

    def end_trial(self, name: str) -> None:
        """Forget a trial, if there is one."""
        self._trials.pop(name, None)


def _watch(slo: Slo, window_s: float, min_samples: int) -> _Watched:
    window = Slices[Tally](slo.window_seconds or window_s, lambda: _tally(slo))
    return _Watched(QosEvaluator(slo, min_samples), window)


def _tally(slo: Slo) -> Tally:
    return METRICS[slo.metric](slo.max)


def _sum(total: Tally, parts: Iterable[Tally]) -> Measurement | None:
    for part in parts:
        total.absorb(part)
    return total.measure()
