"""When a dead runtime process comes back, and when it stays down."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Restarts:
    """Exponential backoff with jitter, and a bound on deaths in a row.

    A process that dies again and again before it has done anything has a cause that a restart
    does not cure. One that works between its deaths comes back every time: its streams lose
    nothing, and whether to go on with such a build is for the rollout to judge.
    """

    bound: int = 5  #: deaths in a row, within the window, after which the process stays down
    window_seconds: float = 60.0
    first_delay_seconds: float = 0.05  #: a stream that is replayed waits for this
    max_delay_seconds: float = 5.0
    jitter: Callable[[], float] = random.random  #: 0 to 1; spreads replicas that die together
    total: int = 0
    _deaths: deque[float] = field(default_factory=deque)

    def worked(self) -> None:
        """The process served a token: what killed its predecessors is over."""
        self._deaths.clear()

    def died(self, now: float) -> float | None:
        """Record a death at `now`; the seconds to wait before the restart, or None for never."""
        while self._deaths and now - self._deaths[0] > self.window_seconds:
            self._deaths.popleft()
        self._deaths.append(now)
        if len(self._deaths) > self.bound:
            return None
        self.total += 1
        delay = self.first_delay_seconds * 2.0 ** (len(self._deaths) - 1)
        return min(delay, self.max_delay_seconds) * (0.5 + 0.5 * self.jitter())
