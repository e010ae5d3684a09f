"""A PID controller for a quantity in relative units.

Position form: each step computes the output anew from error, accumulated error and slope,
so a step that is missed or clipped leaves no trace in the output. All gains are per step;
the caller steps it at a fixed interval.

Method: the position algorithm (Åström and Hägglund, PID Controllers: Theory, Design, and Tuning,
1995).
"""

from collections import deque
from dataclasses import dataclass
from math import copysign, isfinite
from typing import Final

#: Each overshoot halves the largest step, down to a 64th: on a plant steeper than the gains
#: expect, or slower, a swing dies out instead of lasting, and noise moves little.
SLEW_AFTER_OVERSHOOT: Final = 0.5
SMALLEST_SLEW: Final = 1 / 64

#: More steps on one side than any delay that the gains can take explains: the plant itself
#: has changed, and the step grows again.
LONG_RUN: Final = 10
SLEW_ON_LONG_RUN: Final = 1.5

#: So many errors in a row on one side, each so much larger than all of the latest ones, while the
#: output rested within its largest step: that is no noise and not our doing. The plant has
#: changed at once, and so may the output.
SURPRISE: Final = 2.0
SURPRISES: Final = 2
LATEST: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class PidSettings:
    """Gains in output units per relative error, and what bounds the output.

    `deadband`: while the error is within it the output rests. `slew`: the output's largest
    change in one step, less for a while after an overshoot.
    """

    kp: float
    ki: float
    kd: float
    deadband: float
    slew: float
    low: float
    high: float


class PidController:
    """Steers a measurement to `setpoint`; the output rises while the measurement is below it.

    It starts at `start` without a bump: the first step takes the proportional part out of
    the integral, so the output moves by the integral gain alone.

    Raises:
        ValueError: the start is outside the bounds.
    """

    def __init__(self, settings: PidSettings, *, setpoint: float, start: float) -> None:
        if not settings.low <= start <= settings.high:
            raise ValueError(f"start {start} is outside {settings.low} to {settings.high}")
        self._settings = settings
        self._setpoint = setpoint
        self._output = start
        self._integral: float | None = None
        self._last: float | None = None
        self._slew = settings.slew
        self._side = 0.0  # sign of the last error outside the deadband
        self._run = 0  # how many of them in a row had it
        self._latest: deque[tuple[float, float]] = deque(maxlen=LATEST + SURPRISES)

    @property
    def output(self) -> float:
        """The output of the last step."""
        return self._output

    def update(self, measurement: float) -> float:
        """Take one step. A measurement that is not finite changes nothing."""
        if not isfinite(measurement):
            return self._output
        error = self._setpoint - measurement
        self._latest.append((error, self._output))
        if abs(error) <= self._settings.deadband:
            self._rest()
        else:
            self._damp(error)
            self._step(error, self._slope(measurement))
        self._last = measurement
        return self._output

    def _rest(self) -> None:
        """Inside the deadband: stay, and make what brought us here the place to go on from."""
        self._integral = self._output

    def _step(self, error: float, slope: float) -> None:
        proportional = self._settings.kp * error
        if self._integral is None:
            self._integral = self._output - proportional
        wanted = self._integral + self._settings.ki * error
        raw = wanted + proportional - self._settings.kd * slope
        self._output = self._bounded(raw, error)
        # Conditional anti-windup: while clipped, accumulate only what leads back inside.
        if (raw - self._output) * error <= 0:
            self._integral = wanted

    def _damp(self, error: float) -> None:
        """Adapt the largest step to how the errors outside the deadband change sides."""
        side = copysign(1.0, error)
        turned = side == -self._side
        self._run = 1 if turned else self._run + 1
        self._side = side
        if turned:
            self._slew *= SLEW_AFTER_OVERSHOOT
        elif self._run > LONG_RUN:
            self._slew *= SLEW_ON_LONG_RUN
        largest = self._settings.slew
        if self._is_surprised(side):
            self._slew = largest
        self._slew = min(max(self._slew, SMALLEST_SLEW * largest), largest)

    def _is_surprised(self, side: float) -> bool:
        """Whether the last errors stand out from those before, and nothing that we did explains it.

        Each is kept with the output that it was measured at.
        """
        if len(self._latest) < LATEST + SURPRISES:
            return False
        errors, outputs = zip(*self._latest, strict=True)
        largest = max(map(abs, errors[:-SURPRISES]))
        return (
            all(side * error > SURPRISE * largest for error in errors[-SURPRISES:])
            and max(outputs) - min(outputs) <= self._settings.slew
        )

    def _slope(self, measurement: float) -> float:
        """Derivative on the measurement, so that a new setpoint is no kick."""
        return 0.0 if self._last is None else measurement - self._last

    def _bounded(self, raw: float, error: float) -> float:
        """Within bounds and slew, and never away from the setpoint: the slope only brakes."""
        low = self._output - (self._slew if error < 0 else 0.0)
        high = self._output + (self._slew if error > 0 else 0.0)
        return min(max(raw, low, self._settings.low), high, self._settings.high)
