"""What every fault can do."""

import time
from collections.abc import Mapping
from typing import Any, Protocol

from chaos.record import Effect, Record


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
