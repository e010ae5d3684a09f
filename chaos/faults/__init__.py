"""The faults by kind. Each says what was asked, what is in force, and what it was seen to do."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from chaos.errors import ChaosError
from chaos.experiment import Fault
from chaos.faults.base import Breakage
from chaos.faults.clock import WallClock
from chaos.faults.disk import FileSize, FullDisk
from chaos.faults.guard import BlindGuard, LosePrometheus
from chaos.faults.limits import Descriptors
from chaos.faults.network import Cut, Delay, Partition, Throttle
from chaos.faults.pressure import Memory
from chaos.faults.processes import Kill, Stop
from chaos.faults.rollback import RollbackAmidKill
from chaos.faults.storm import Storm
from chaos.stage import Ground

__all__ = ["KINDS", "Breakage", "make_fault"]

KINDS: Final[Mapping[str, Callable[..., Breakage]]] = {
    "blind_guard": BlindGuard,
    "clock": WallClock,
    "cut": Cut,
    "delay": Delay,
    "descriptors": Descriptors,
    "file_size": FileSize,
    "full_disk": FullDisk,
    "kill": Kill,
    "lose_prometheus": LosePrometheus,
    "memory": Memory,
    "partition": Partition,
    "rollback_amid_kill": RollbackAmidKill,
    "stop": Stop,
    "storm": Storm,
    "throttle": Throttle,
}


def make_fault(fault: Fault, ground: Ground) -> Breakage:
    """The fault of a definition, ready to be injected.

    Raises:
        ChaosError: there is no such kind, or it has no such arguments.
    """
    if fault.kind not in KINDS:
        raise ChaosError(f"fault {fault.kind!r}; allowed: {', '.join(sorted(KINDS))}")
    arguments: dict[str, Any] = dict(fault.arguments)
    try:
        return KINDS[fault.kind](ground, **arguments)
    except TypeError as error:
        raise ChaosError(f"fault {fault.kind!r}: {error}") from None
