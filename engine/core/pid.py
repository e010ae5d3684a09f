"""A PID controller for a quantity in relative units.

Position form: each step computes the output anew from error, accumulated error and slope,
so a step that is missed or clipped leaves no trace in the output. All gains are per step;
the caller steps it at a fixed interval.
"""

from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True, slots=True, kw_only=True)
class PidSettings:
    """Gains in output units per relative error, and what bounds the output.

    `deadband`: errors up to this size count as zero. `slew`: the output's largest change in
    one step.
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
    """

    def __init__(self, settings: PidSettings, *, setpoint: float, start: float) -> None:
        if not settings.low <= start <= settings.high:
            raise ValueError(f"start {start} is outside {settings.low} to {settings.high}")
        self._settings = settings
        self._setpoint = setpoint
        self._output = start
        self._integral: float | None = None
        self._last: float | None = None

    @property
    def output(self) -> float:
        """The output of the last step."""
        return self._output

    def update(self, measurement: float) -> float:
        """Take one step. A measurement that is not finite changes nothing."""
        if not isfinite(measurement):
            return self._output
        error = self._error(measurement)
        proportional = self._settings.kp * error
        if self._integral is None:
            self._integral = self._output - proportional
        wanted = self._integral + self._settings.ki * error
        raw = wanted + proportional - self._slope(measurement)
        self._output = self._bounded(raw)
        # Conditional anti-windup: while clipped, accumulate only what leads back inside.
        if (raw - self._output) * error <= 0:
            self._integral = wanted
        self._last = measurement
        return self._output

    def _error(self, measurement: float) -> float:
        error = self._setpoint - measurement
        return error if abs(error) > self._settings.deadband else 0.0

    def _slope(self, measurement: float) -> float:
        """Derivative on the measurement: a new setpoint or the deadband's edge is no kick."""
        if self._last is None:
            return 0.0
        return self._settings.kd * (measurement - self._last)

    def _bounded(self, raw: float) -> float:
        settings = self._settings
        low = max(settings.low, self._output - settings.slew)
        high = min(settings.high, self._output + settings.slew)
        return min(max(raw, low), high)
