"""No room: a disk that is full, or a limit that fails writes where no disk can be had."""

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chaos.errors import FaultError
from chaos.faults.base import wait
from chaos.faults.limits import Limit
from chaos.observing import Look
from chaos.record import HEALED, INJECTED, Effect, Record
from chaos.stage import Ground

#: A command of ours takes a second, a rollback ten when an engine says that it forgets.
_COMMAND_SECONDS: Final = 60.0

_BRAKE_SECONDS: Final = 15.0

#: Promoted without room: at a stage already. The other one goes first, and leaves a history.
_FLAG: Final = "qos_monitoring"
_OTHER_FLAG: Final = "ttft_pipeline"

_BALLAST: Final = "ballast"
_CHUNK: Final = 64 * 1024


@dataclass(slots=True)
class Report:
    """A report folder that is judged with room and without, and what became of its verdict."""

    folder: Path  #: as we see it
    command: Sequence[str]  #: judges it
    before: bytes = b""
    status: int | None = None

    def judge(self) -> None:
        """With room."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.status = run(self.command)["status"]
        self.before = self._verdict()

    def judge_without_room(self, limited: Sequence[str] = ()) -> dict[str, Any]:
        """Without; `limited` runs the command in such a place."""
        second = run([*limited, *self.command])
        after = self._verdict()
        return {
            "with_room": self.status,
            "without_room": second["status"],
            "refused": second["status"] != self.status,
            "verdict_whole": bool(self.before) and after == self.before,
            "said": second["said"],
            "left": sorted(path.name for path in self.folder.iterdir()),
        }

    def _verdict(self) -> bytes:
        path = self.folder / "verdict.json"
        return path.read_bytes() if path.exists() else b""


class FileSize(Limit):
    """No file of the front end grows by a byte, nor any that the judge writes.

    The system answers with EFBIG in place of ENOSPC; a program meets both as a write that fails in
    the middle. It needs no right that an ordinary user lacks.
    """

    kind = resource.RLIMIT_FSIZE
    name = "RLIMIT_FSIZE"

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        folder = ground.stage.folder / "report"
        self._report = Report(folder, ground.stage.phase5("gate", "judge", str(folder)))
        self._judged: dict[str, Any] = {}

    def inject(self) -> Mapping[str, Any]:
        """Nothing more is written."""
        self._report.judge()
        return self._set(0)

    def hold(self, seconds: float) -> None:
        """Meanwhile a gate is judged without room."""
        self._judged = self._report.judge_without_room((sys.executable, "-c", _LIMITER, "0"))
        wait(seconds)

    def effect(self, record: Record) -> Effect:
        """A write failed; `disk_checks` looks at how."""
        values = {"judge": self._judged, "looks_answered": _answered(record)}
        proven = bool(self._judged.get("refused"))
        return Effect(values=values, proven=proven, why="the judge could write all the same")


class FullDisk:
    """Not a byte is free where the engine, the store and the judge keep their files.

    Raises:
        FaultError: the engine has no disk of its own.
    """

    def __init__(self, ground: Ground) -> None:
        if ground.disk is None or ground.engine.config is None:
            raise FaultError("no disk of our own; allowed: an experiment with `small_disk`")
        self._disk, self._observer = ground.disk, ground.observer
        self._config = ground.engine.config
        self._ballast = self._disk.outside / _BALLAST
        inside = self._disk.inside
        self._phase5 = (*self._disk.enter, *ground.stage.phase5())
        self._storing = (*self._disk.enter, *ground.stage.storing())
        judge = (*self._phase5, "gate", "judge", str(inside / "report"))
        self._report = Report(self._disk.outside / "report", judge)
        self._own = inside / self._config.name
        self._url = ground.engine.url
        self._seen: dict[str, Any] = {}
        self._healed: Mapping[str, Any] = {}
        self.requested: Mapping[str, Any] = {"disk": str(inside), "free": 0}

    def inject(self) -> Mapping[str, Any]:
        """Judge and promote once with room, then fill the disk.

        Raises:
            FaultError: a write still goes through, or fails otherwise.
        """
        self._report.judge()
        self._seen["promotion_with_room"] = self._promote(_OTHER_FLAG)
        self._seen["store_before"] = self._store()
        written = self._fill()
        free, refused = self._disk.free(), self._refused()
        if free or refused != "ENOSPC":
            raise FaultError(f"{self._disk.inside}: {free} bytes free, a write gave {refused}")
        return {"file_system": self._kind(), "filled": written, "free": free, "a_write": refused}

    def hold(self, seconds: float) -> None:
        """Meanwhile: a verdict, a promotion, and a rollback of the engine."""
        self._seen["judge"] = self._report.judge_without_room()
        before = self._config.read_bytes()
        self._seen["promotion"] = self._promote(_FLAG)
        self._seen["config_whole"] = self._config.read_bytes() == before
        self._seen["rollback"] = run(self._rollback())
        look = self._observer.first(_braked, _BRAKE_SECONDS, "the engine brakes in memory")
        self._seen["engine"] = _engine(look)
        self._seen["store_during"] = self._store()
        self._seen["a_write"] = self._refused()
        wait(seconds)

    def heal(self) -> Mapping[str, Any]:
        """Make room; what was asked for in vain is asked for again."""
        if self._healed:
            return self._healed
        self._ballast.unlink(missing_ok=True)
        if "engine" not in self._seen:
            return {}
        again = run(self._rollback())
        look = self._observer.first(
            lambda look: _braked(look) and bool(look.status["state"]["durable"]),
            _BRAKE_SECONDS,
            "the engine's brakes are durable",
        )
        self._healed = {
            "free": self._disk.free(),
            "rollback_again": again,
            "engine_after": _engine(look),
            "store_after": self._store(),
            "brakes": len(list(self._config.parent.rglob("brakes/*.json"))),
            "torn": sorted(p.name for p in self._config.parent.rglob("brakes/*") if not _json(p)),
        }
        return self._healed

    def effect(self, record: Record) -> Effect:
        """A write failed for want of room, throughout."""
        values = {**self._seen, **self._healed, "looks_answered": _answered(record)}
        proven = self._seen.get("a_write") == "ENOSPC" and bool(self._seen["judge"]["refused"])
        return Effect(values=values, proven=proven, why="there was room to write all the same")

    def _fill(self) -> int:
        written = 0
        with self._ballast.open("wb", buffering=0) as file:
            for size in (_CHUNK, 1):
                try:
                    while True:
                        written += file.write(bytes(size)) or 0
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise FaultError(f"{self._ballast}: {error}") from error
        return written

    def _refused(self) -> str:
        """What the system says to one more byte in a file of its own; empty when it takes it."""
        probe = self._disk.outside / "probe"
        try:
            probe.write_bytes(b"1")
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        else:
            return ""
        finally:
            probe.unlink(missing_ok=True)

    def _kind(self) -> str:
        """What stands at the place in the mounts of those who were let in."""
        mounts = (self._disk.outside.parents[len(self._disk.inside.parents) - 1]).parent / "mounts"
        rows = [line.split() for line in mounts.read_text().splitlines()]
        return next((row[2] for row in rows if row[1] == str(self._disk.inside)), "")

    def _promote(self, flag: str) -> dict[str, Any]:
        return run([*self._storing, str(self._own), flag])

    def _rollback(self) -> list[str]:
        options = (
            "--config",
            str(self._own),
            "--engine",
            self._url,
            "--reason",
            "the disk is full",
        )
        return [*self._phase5, "rollback", *options]

    def _store(self) -> dict[str, Any]:
        told = run([*self._storing, str(self._own)])
        return {**told, "said": []} | (json.loads(told["said"][-1]) if told["said"] else {})


def run(command: Sequence[str]) -> dict[str, Any]:
    """A command's exit status and what it said last."""
    done = subprocess.run(  # noqa: S603 - a list, no shell
        [*command],
        capture_output=True,
        text=True,
        check=False,
        timeout=_COMMAND_SECONDS,
        env=dict(os.environ),
    )
    said = (done.stdout + done.stderr).strip().splitlines()
    return {"status": done.returncode, "said": said[-3:]}


def _answered(record: Record) -> int:
    begin, end = record.at(INJECTED), record.at(HEALED)
    return sum(begin <= look.at <= end and not look.error for look in record.looks)


def _braked(look: Look) -> bool:
    flags = look.status.get("flags", {}).values()
    return bool(flags) and all(flag["braked"] and not flag["effective"] for flag in flags)


def _engine(look: Look) -> dict[str, Any]:
    state = look.status["state"]
    return {"durable": state["durable"], "troubles": state["troubles"], "braked": _braked(look)}


def _json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


#: Runs a program that can write so many bytes into each file.
_LIMITER: Final = (
    "import os, resource, sys; room = int(sys.argv[1]); "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)); "
    "os.execvp(sys.argv[2], sys.argv[2:])"
)
