"""Faults of the runtime's process, by signals."""

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import psutil

from chaos.errors import FaultError
from chaos.faults.base import wait
from chaos.observing import Look
from chaos.record import HEALED, INJECTED, Effect, Record
from chaos.stage import Ground

#: A killed process is gone from the table at once; a busy machine takes its time.
_GONE_SECONDS: Final = 10.0

#: The stall limit is 5 s behind a fast model, 30 s before its first step.
_GIVEN_UP_SECONDS: Final = 40.0


class _Signal:
    """A signal to one runtime process."""

    number: signal.Signals

    def __init__(self, ground: Ground) -> None:
        self._observer = ground.observer
        self._process: psutil.Process | None = None
        self.requested: Mapping[str, Any] = {"signal": self.number.name, "to": "runtime"}

    def _send(self) -> psutil.Process:
        pids = self._observer.first(lambda look: bool(look.pids), _GONE_SECONDS, "a runtime").pids
        try:
            process = self._process = psutil.Process(pids[0])
            process.send_signal(self.number)
        except psutil.Error as error:
            raise FaultError(f"{self.number.name} to runtime {pids[0]}: {error}") from None
        return process

    def hold(self, seconds: float) -> None:
        """At least so long, and until the engine has replaced the process."""
        wait(seconds)
        self._await_replacement()

    def _await_replacement(self) -> None:
        self._observer.first(self._replaced, _GIVEN_UP_SECONDS, "the runtime is replaced")

    def effect(self, record: Record) -> Effect:
        """The engine counted a restart, and another process serves."""
        last, restarts = record.last(), record.growth("phase5_runtime_restarts_total")
        caught = {flow: len(found) for flow in record.samples if (found := record.caught(flow))}
        gaps = [s.longest_gap or 0.0 for flow in record.samples for s in record.caught(flow)]
        values = {
            "pid": self._pid,
            "pids_after": list(last.pids) if last else None,
            "restarts": restarts,
            "caught_streams": caught,
            "silence_seconds": max(gaps, default=None),
            "replayed": record.growth("phase5_runtime_replays_total"),
        }
        replaced = last is not None and self._replaced(last)
        return Effect(
            values=values, proven=bool(restarts) and replaced, why="the runtime was not replaced"
        )

    @property
    def _pid(self) -> int | None:
        return self._process.pid if self._process else None

    def _replaced(self, look: Look) -> bool:
        return bool(look.pids) and self._pid not in look.pids


class Kill(_Signal):
    """The runtime ends at once."""

    number = signal.SIGKILL

    def inject(self) -> Mapping[str, Any]:
        """Kill it, and see that it is gone.

        Raises:
            FaultError: a process lives on after SIGKILL.
        """
        process = self._send()
        try:
            process.wait(_GONE_SECONDS)
        except psutil.TimeoutExpired:
            raise FaultError(f"runtime {process.pid} lives on after SIGKILL") from None
        return {"pid": process.pid, "state": "gone"}

    def hold(self, seconds: float) -> None:
        """It happens at once: whatever follows is the engine's doing."""
        wait(seconds)

    def heal(self) -> Mapping[str, Any]:
        """Nothing is left of it."""
        return {}


class Stop(_Signal):
    """The runtime stands still, and its connection stays open."""

    number = signal.SIGSTOP

    def inject(self) -> Mapping[str, Any]:
        """Stop it, and read its state back.

        Raises:
            FaultError: a process goes on after SIGSTOP.
        """
        process = self._send()
        for _ in range(int(_GONE_SECONDS / 0.01)):
            if process.status() == psutil.STATUS_STOPPED:
                return {"pid": process.pid, "state": psutil.STATUS_STOPPED}
            wait(0.01)
        raise FaultError(f"runtime {process.pid} is {process.status()} after SIGSTOP")

    def heal(self) -> Mapping[str, Any]:
        """Let it go on, where it still is the same process."""
        process = self._process
        state = "gone"
        if process is not None and process.is_running():
            with suppress(psutil.NoSuchProcess):
                os.kill(process.pid, signal.SIGCONT)
                state = "continued"
        return {"pid": self._pid, "state": state}

    def effect(self, record: Record) -> Effect:
        """As for any signal; and it stood still for as long as the engine let it."""
        found = super().effect(record)
        stood = record.at(HEALED) - record.at(INJECTED)
        return Effect(
            values={**found.values, "stood_still_seconds": stood},
            proven=found.proven,
            why=found.why,
        )
