"""Faults by limits on the front end; here: no more descriptors."""

import resource
import select
import socket
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from chaos.errors import FaultError
from chaos.faults.base import wait
from chaos.record import Effect, Record
from chaos.stage import Ground

#: Descriptors that are left to the process: enough to go on, too few for its clients.
_SPARE: Final = 2

#: Connections that are tried meanwhile, and what the kernel may take to make one.
_NEWCOMERS: Final = 10
_CONNECT_SECONDS: Final = 5.0

#: Long enough for an answer, and too short for streams that end to have left them a descriptor.
_KNOCK_SECONDS: Final = 2.0

#: The limits of each kind, as the system has them.
Pair = tuple[int, int]


class Limit:
    """A limit on the front end, which is set from outside. Linux only.

    Raises:
        FaultError: the engine's process is not on this machine.
    """

    kind: int
    name: str

    def __init__(self, ground: Ground) -> None:
        if not hasattr(resource, "prlimit"):
            raise FaultError(f"limits of another process: not on {sys.platform}; allowed: Linux")
        if ground.engine.pid is None:
            raise FaultError("limits: the engine's process is not on this machine")
        self._process = psutil.Process(ground.engine.pid)
        self._former: Pair | None = None
        self.requested: Mapping[str, Any] = {"limit": self.name, "on": "front end"}

    def _set(self, soft: int) -> Mapping[str, Any]:
        pid = self._process.pid
        former = resource.prlimit(pid, self.kind)
        resource.prlimit(pid, self.kind, (soft, former[1]))
        self._former = self._former or former
        found = resource.prlimit(pid, self.kind)
        if found[0] != soft:
            raise FaultError(f"{self.name} of {pid} is {found[0]}, asked for {soft}")
        return {"pid": pid, "limit": found[0], "before": former[0]}

    def heal(self) -> Mapping[str, Any]:
        """Put back what was."""
        if self._former is None or not self._process.is_running():
            return {}
        found = self._set(self._former[0])
        return {"limit": found["limit"]}

    def hold(self, seconds: float) -> None:
        """See `Breakage.hold`."""
        wait(seconds)


class Descriptors(Limit):
    """The front end has no descriptors for further connections."""

    kind = resource.RLIMIT_NOFILE
    name = "RLIMIT_NOFILE"

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        parts = urlsplit(ground.engine.url)
        self._address = (parts.hostname or "", parts.port or 0)
        self._unanswered = 0

    def inject(self) -> Mapping[str, Any]:
        """As many as it has at this moment, and hardly more."""
        has = self._process.num_fds()
        return {**self._set(has + _SPARE), "open": has}

    def hold(self, seconds: float) -> None:
        """Meanwhile newcomers knock: each on a connection of its own, and all at once."""
        with ExitStack() as doors:
            knocking = [doors.enter_context(_knock(self._address)) for _ in range(_NEWCOMERS)]
            wait(min(seconds, _KNOCK_SECONDS))
            self._unanswered = sum(not select.select([door], [], [], 0)[0] for door in knocking)
            wait(max(seconds - _KNOCK_SECONDS, 0.0))

    def effect(self, record: Record) -> Effect:  # noqa: ARG002 - the newcomers tell
        """Newcomers had no answer while it lasted."""
        return Effect(
            values={"newcomers": _NEWCOMERS, "without_answer": self._unanswered},
            proven=self._unanswered > _NEWCOMERS / 2,
            why=f"{self._unanswered} of {_NEWCOMERS} newcomers had no answer",
        )


def _knock(address: tuple[str, int]) -> socket.socket:
    """A connection that has asked whether the engine lives."""
    door = socket.create_connection(address, timeout=_CONNECT_SECONDS)
    door.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return door
