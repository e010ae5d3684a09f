"""What every fault can do."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from chaos.errors import FaultError
from chaos.record import Effect, Record

#: Between two looks at what gives no sign by itself.
_GLANCE_SECONDS: Final = 0.1


class Breakage(Protocol):
    """A fault: three witnesses, none of which stands for another."""

    #: What was asked for.
    requested: Mapping[str, Any]

    def inject(self) -> Mapping[str, Any]:
        """Break it; returns what is in force, read back from where it is.

        Raises:
            FaultError: it is not in force as requested.
        """

    def hold(self, seconds: float) -> None:
        """Wait while it lasts: so long, or until what it is to cause has been seen.

        Raises:
            FaultError: that never came.
        """

    def heal(self) -> Mapping[str, Any]:
        """End it; returns what was found afterwards. May be called again, and without effect.

        Raises:
            FaultError: it is still in force.
        """

    def effect(self, record: Record) -> Effect:
        """What it was measured to have done."""


def wait(seconds: float) -> None:
    """Let time pass: how long a fault lasts is part of the fault."""
    time.sleep(seconds)


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for what has no event to wait on: it is asked again and again.

    Raises:
        FaultError: it never came.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise FaultError(f"never within {seconds:g} s: {what}")
        time.sleep(_GLANCE_SECONDS)
