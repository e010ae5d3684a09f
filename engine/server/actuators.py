"""What remedies move: the limit of streams, the replicas, the runtime.

Each is the one owner of its part: the limit of streams is what the governor or the
configuration says, what the memory allows, or this cap, whichever is least.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Protocol

from engine.core.remediation import Order
from engine.runtime.interface import Runtime


@dataclass(frozen=True, slots=True)
class Change:
    """Where an actuator stood, and where it stands, in words."""

    before: str
    after: str

    @property
    def changed(self) -> bool:
        """Whether it moved at all: at its bound it does not."""
        return self.before != self.after


class ActuatorError(RuntimeError):
    """An actuator could not do what was asked. The message is one line, without secrets."""


class Lever(Protocol):
    """Does the work of one actuator. Calls do not overlap.

    Every call may raise `ActuatorError` or the runtime's `RuntimeStartError`.
    """

    async def apply(self, order: Order) -> Change:
        """Carry out the remedy of an order."""

    async def undo(self) -> Change:
        """Take the last `apply` back."""

    async def reset(self) -> Change:
        """Go to where the configuration has it."""


class LimitCap:
    """Throttles: a cap on the limit of streams.

    Args:
        limit: the limit of streams without the cap.
        floor: the fewest streams that are worth an engine.
    """

    def __init__(self, limit: Callable[[], int], floor: int) -> None:
        self._limit = limit
        self._floor = floor
        self._busiest, self._busiest_before = 0, 0
        self._before: int | None = None
        self._factor = 1.0
        self.cap: int | None = None

    def capped(self, limit: int) -> int:
        """The limit of streams under the cap."""
        return limit if self.cap is None else min(limit, self.cap)

    def saw(self, running: int) -> None:
        """So many streams run: a share of them is taken, since one of an idle limit is none."""
        self._busiest = max(self._busiest, running)

    def turn(self) -> None:
        """What was seen before the last turn is forgotten."""
        self._busiest, self._busiest_before = 0, self._busiest

    async def apply(self, order: Order) -> Change:
        """Let only a share of the streams run that ran lately."""
        current = self.capped(self._limit())
        busy = min(current, max(self._busiest, self._busiest_before) or current)
        self._before, self._factor = self.cap, order.policy.remedy.factor
        return self._move(min(current, max(self._floor, int(busy * self._factor))))

    async def undo(self) -> Change:
        """As before the last throttle."""
        return self._move(self._before)

    async def ease(self) -> Change:
        """One step up; at the limit the cap is gone."""
        raised = ceil((self.cap or self._limit()) / self._factor)
        return self._move(None if raised >= self._limit() else raised)

    async def reset(self) -> Change:
        """No cap."""
        return self._move(None)

    def _move(self, cap: int | None) -> Change:
        before = self._words()
        self.cap = cap
        return Change(before, self._words())

    def _words(self) -> str:
        return f"limit {self.capped(self._limit())}"


class Replicas:
    """Scales the pool within bounds.

    Args:
        configured: how many it begins with, and goes back to.
        most: `configured` is never too many.
    """

    def __init__(self, runtime: Runtime, configured: int, fewest: int, most: int) -> None:
        self._runtime = runtime
        self._configured = self._wanted = self._before = configured
        self._fewest = min(fewest, configured)
        self._most = max(most, configured)

    async def apply(self, order: Order) -> Change:
        """Add or take away replicas; a stream that lives loses nothing."""
        remedy = order.policy.remedy
        target = self._wanted + remedy.direction * remedy.step
        before = self._wanted
        change = await self._scale(max(self._fewest, min(target, self._most)))
        self._before = before
        return change

    async def undo(self) -> Change:
        """As many as before the last scaling."""
        return await self._scale(self._before)

    async def reset(self) -> Change:
        """As many as configured."""
        return await self._scale(self._configured)

    async def _scale(self, replicas: int) -> Change:
        change = Change(f"{self._wanted} replicas", f"{replicas} replicas")
        if change.changed:
            await self._runtime.scale(replicas)
            self._wanted = replicas
        return change


class Restart:
    """Replaces every process; live streams go on in the new ones."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def apply(self, order: Order) -> Change:  # noqa: ARG002 - as every lever
        """Replace them, one after the other."""
        before = self._words()
        await self._runtime.renew()
        return Change(f"processes {before}", f"new processes {self._words()}")

    async def undo(self) -> Change:
        """There is no way back, and none is needed."""
        return Change("", "")

    async def reset(self) -> Change:
        """Fresh processes are as configured."""
        return Change("", "")

    def _words(self) -> str:
        return ", ".join(str(replica.pid) for replica in self._runtime.replicas())
