"""The adaptive governor: how many streams may run, so that TTFT keeps its target.

The controller works on logarithms: it multiplies the limit instead of adding to it. Where
TTFT is a fixed part plus a part for each stream, one per cent more streams give at most one
per cent more TTFT whatever the machine's speed, so one set of gains is stable on all.

Sign: TTFT above the target lowers the limit, always.
"""

from math import ceil, exp, isfinite, log
from typing import Final

from engine.core.pid import PidController, PidSettings
from engine.core.stability import Calm, Stability
from engine.core.windows import quantile

#: The objective is the P95: what 19 of 20 streams keep.
QUANTILE: Final = 0.95

#: Half the width, relative to the target, of the band in which the limit rests. Wider than
#: one stream's worth of TTFT from about 8 streams up, so that whole numbers do not hunt.
DEADBAND: Final = 0.07

#: The band's upper edge is the target, so resting never means missing it.
SETPOINT: Final = 1.0 - DEADBAND

#: The largest change in one interval: a quarter up, a fifth down. From 50 that reaches 100
#: in four intervals and 4 in twelve.
SLEW: Final = log(1.25)

#: Found on the plants of the tests: linear, saturating, steep, delayed by up to three
#: intervals, noisy. The integral does the work; a delay of three intervals allows 0.44.
KP: Final = 0.1
KI: Final = 0.2
KD: Final = 0.05


class AdaptiveGovernor:
    """Recomputes the limit once an interval from the P95 TTFT of the interval's streams.

    An interval without samples changes nothing: silence says nothing about the target.

    When its loop is not to be trusted (`Stability`), it is in safe mode: the limit is
    `safe_limit` until TTFT has been steady for `calm_s`; then it starts anew from there.

    Raises:
        ValueError: the limits are not 1 <= min <= start <= max.
    """

    def __init__(
        self,
        target_ttft_s: float,
        min_limit: int,
        max_limit: int,
        start_limit: int,
        interval_s: float,
        *,
        safe_limit: int | None = None,
        calm_s: float = 60.0,
    ) -> None:
        if target_ttft_s <= 0 or interval_s <= 0:
            raise ValueError(
                f"target {target_ttft_s} s and interval {interval_s} s must be above 0"
            )
        if not 1 <= min_limit <= start_limit <= max_limit:
            raise ValueError(
                f"limits must be 1 <= min <= start <= max, given "
                f"{min_limit}, {start_limit}, {max_limit}"
            )
        self._target = target_ttft_s
        self._interval = interval_s
        self._settings = _settings(min_limit, max_limit)
        safe = start_limit if safe_limit is None else safe_limit
        self._safe_limit = min(max(safe, min_limit), max_limit)
        self._calm_intervals = ceil(calm_s / interval_s)
        self._begin(start_limit)
        self._calm = Calm(self._calm_intervals)
        self.trouble: str | None = None  #: why it is in safe mode; None while it steers
        self.ttft_p95_s: float | None = None  #: of the last interval that had samples
        self._samples: list[float] = []
        self._pressed = False
        self._ends: float | None = None

    def observe(self, ttft_s: float, now: float, *, at_limit: bool = True) -> None:
        """A stream got its first token `ttft_s` seconds after it got its slot.

        Time in the queue is not part of it: a lower limit makes that longer, and the loop
        would feed itself. `at_limit` says whether every slot was taken; while none was
        refused one, a good TTFT says nothing about a higher limit, so it is not raised.
        """
        self._turn(now)
        if isfinite(ttft_s):
            self._samples.append(ttft_s)
            self._pressed = self._pressed or at_limit

    def limit(self, now: float) -> int:
        """How many streams may run at once."""
        self._turn(now)
        return self._limit

    def _turn(self, now: float) -> None:
        """Close the interval when it is over. One that nobody closed in time was silent."""
        if self._ends is None:
            self._ends = now + self._interval
        if now < self._ends:
            return
        over = 1 + int((now - self._ends) // self._interval)
        self._ends += self._interval * over
        samples, pressed = self._samples, self._pressed
        self._samples, self._pressed = [], False
        silent = over - 1 if samples else over
        if samples:
            self.ttft_p95_s = quantile(samples, QUANTILE)
            ttft = self.ttft_p95_s / self._target
            if self.trouble is None:
                self._step(ttft, pressed)
            elif self._calm.sample(ttft):
                self._leave_safe_mode()
        if silent and self.trouble is not None and self._calm.silent(silent):
            self._leave_safe_mode()

    def _begin(self, limit: int) -> None:
        self._limit = limit
        self._pid = PidController(self._settings, setpoint=SETPOINT, start=log(limit))
        self._stability = Stability(limit)

    def _step(self, ttft: float, pressed: bool) -> None:
        if ttft > SETPOINT or pressed:
            self._limit = round(exp(self._pid.update(ttft)))
        self.trouble = self._stability.trouble(self._limit, ttft, reached=pressed)
        if self.trouble is not None:
            self._limit = self._safe_limit
            self._calm = Calm(self._calm_intervals)

    def _leave_safe_mode(self) -> None:
        self.trouble = None
        self._begin(self._safe_limit)


def _settings(min_limit: int, max_limit: int) -> PidSettings:
    return PidSettings(
        kp=KP, ki=KI, kd=KD, deadband=DEADBAND, slew=SLEW, low=log(min_limit), high=log(max_limit)
    )
