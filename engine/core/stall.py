"""When a runtime that says nothing is stuck.

Progress is a token or a finished prefill chunk. How long that takes depends on model, machine
and load, from a millisecond to several seconds, so the limit follows what was seen.
"""

from dataclasses import dataclass, field
from typing import Final

from engine.core.windows import SlidingWindow

#: A step ten times slower than the slowest of the last minute is no step.
_FACTOR: Final = 10.0
_WINDOW_SECONDS: Final = 60.0
#: Steps that are remembered: one a millisecond would be too many to go through.
_MAX_STEPS: Final = 512


@dataclass(slots=True)
class StallLimit:
    """The longest silence, in seconds, that is still taken for work.

    Attributes:
        first: before any step was seen. The slowest known, 512 prompt tokens of a model of
            27 billion parameters, takes a few seconds; the first one may compile kernels.
        floor: however fast the steps are, a busy machine may stop a process for so long.
        ceiling: however slow they were, operators want to know by then.
    """

    first: float = 30.0
    floor: float = 5.0
    ceiling: float = 120.0
    _steps: SlidingWindow[float] = field(
        default_factory=lambda: SlidingWindow(_WINDOW_SECONDS, _MAX_STEPS)
    )

    def observe(self, seconds: float, now: float) -> None:
        """A step took so long."""
        self._steps.add(seconds, now)

    def seconds(self, now: float) -> float:
        """The limit as of now."""
        steps = self._steps.samples(now)
        if not steps:
            return self.first
        return min(max(_FACTOR * max(steps), self.floor), self.ceiling)
