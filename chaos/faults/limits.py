"""Faults by limits on the front end: no more descriptors, no more bytes into files."""

import resource
import select
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from chaos.errors import FaultError
from chaos.faults.base import wait
from chaos.record import HEALED, INJECTED, Effect, Record
from chaos.stage import Ground

#: Descriptors that are left to the process: enough to go on, too few for its clients.
_SPARE: Final = 2

#: Connections that are tried meanwhile, and what the kernel may take to make one.
_NEWCOMERS: Final = 10
_CONNECT_SECONDS: Final = 5.0

#: The limits of each kind, as the system has them.
Pair = tuple[int, int]


class _Limit:
    """A limit on the front end, which is set from outside. Linux only."""

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


class Descriptors(_Limit):
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
            wait(seconds)
            self._unanswered = sum(not select.select([door], [], [], 0)[0] for door in knocking)

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


class FileSize(_Limit):
    """No file of the front end grows by a byte, nor any that the judge writes: a full disk.

    The system answers with EFBIG in place of ENOSPC, which needs a file system of its own and
    root; a program meets both as a write that fails in the middle.
    """

    kind = resource.RLIMIT_FSIZE
    name = "RLIMIT_FSIZE"

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self._stage = ground.stage
        self._judged: dict[str, Any] = {}

    def inject(self) -> Mapping[str, Any]:
        """Nothing more is written."""
        return self._set(0)

    def hold(self, seconds: float) -> None:
        """Meanwhile a gate is judged on the full disk."""
        self._judged = judge_without_room(self._stage.folder, self._stage.judge)
        wait(seconds)

    def effect(self, record: Record) -> Effect:
        """A write failed; `checks.disk_full` looks at how."""
        begin, end = record.at(INJECTED), record.at(HEALED)
        answered = sum(begin <= look.at <= end and not look.error for look in record.looks)
        values = {"judge": self._judged, "looks_answered": answered}
        proven = bool(self._judged.get("refused"))
        return Effect(values=values, proven=proven, why="the judge could write all the same")


def judge_without_room(folder: Path, command: Any) -> dict[str, Any]:
    """Judge a folder twice, with room and without; says what became of its verdict."""
    report = folder / "report"
    verdict = report / "verdict.json"
    report.mkdir(parents=True, exist_ok=True)
    first = _run(command(report), None)
    before = verdict.read_bytes() if verdict.exists() else b""
    second = _run(command(report), 0)
    after = verdict.read_bytes() if verdict.exists() else b""
    return {
        "with_room": first.returncode,
        "without_room": second.returncode,
        "refused": second.returncode != first.returncode,
        "verdict_whole": bool(before) and after == before,
        "said": second.stderr.strip().splitlines()[-1:] if second.stderr.strip() else [],
        "left": sorted(path.name for path in report.iterdir()),
    }


def _run(command: Any, room: int | None) -> "subprocess.CompletedProcess[str]":
    limited = ["-c", _LIMITER, str(room)] if room is not None else []
    full = [sys.executable, *limited, *command] if limited else [*command]
    return subprocess.run(full, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603 - a list, no shell


#: Runs a program that can write so many bytes into each file.
_LIMITER: Final = (
    "import os, resource, sys; room = int(sys.argv[1]); "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)); "
    "os.execvp(sys.argv[2], sys.argv[2:])"
)
