"""A fault of time: the engine's wall clock jumps. Its monotonic clock does not, as in life."""

import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import httpx

from chaos.errors import ChaosError, FaultError
from chaos.faults.base import wait
from chaos.record import Effect, Record
from chaos.stage import Ground

#: Where the offset stands that the engine's clock follows.
FILE: Final = "wall-clock"

#: How exact a clock is read: answers tell whole seconds, and take their time.
_READ_SECONDS: Final = 5.0

#: An engine that answers no request is broken by more than its clock.
_ANSWER_SECONDS: Final = 30.0


def clock_environment(folder: Path) -> dict[str, str]:
    """What an engine is started with so that its wall clock can be moved.

    Raises:
        ChaosError: libfaketime is not installed.
    """
    library = _library()
    file = folder / FILE
    _write(file, 0)
    before = os.environ.get("LD_PRELOAD", "")
    return {
        "LD_PRELOAD": f"{library}:{before}".rstrip(":"),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }


class WallClock:
    """The wall clock goes `seconds` ahead (or, negative, back)."""

    def __init__(self, ground: Ground, seconds: int) -> None:
        self._file = ground.stage.folder / FILE
        self._engine = ground.engine
        self._seconds = seconds
        self._told: dict[str, float] = {}
        self.requested: Mapping[str, Any] = {"wall_clock_jumps_by_seconds": seconds}

    def inject(self) -> Mapping[str, Any]:
        """Move it; what it reads is in a file, which the engine's clock follows.

        Raises:
            FaultError: the engine was not started for it.
        """
        if not self._file.exists():
            raise FaultError("the engine's clock cannot be moved: it was not started for it")
        self._told["before"] = self._ahead()
        return self._move(self._seconds)

    def hold(self, seconds: float) -> None:
        """So long; then the engine tells its time."""
        wait(seconds)
        self._told["during"] = self._ahead()

    def heal(self) -> Mapping[str, Any]:
        """Back again: a second jump, the other way."""
        if "after" in self._told or not self._file.exists():
            return {}
        found = self._move(0)
        self._told["after"] = self._ahead()
        return found

    def effect(self, record: Record) -> Effect:  # noqa: ARG002 - the engine told it directly
        """By how much the time that the engine gives to an answer was ahead of ours."""
        told = self._told
        jumped = told.get("during", 0.0) - told.get("before", 0.0)
        back = told.get("during", 0.0) - told.get("after", 0.0)
        near = all(abs(found - self._seconds) <= _READ_SECONDS for found in (jumped, back))
        return Effect(
            values={"ahead_seconds": told, "jumped_seconds": jumped, "jumped_back_seconds": back},
            proven=near,
            why=f"the engine's clock jumped by {jumped:.0f} s, asked for {self._seconds} s",
        )

    def _move(self, offset: int) -> Mapping[str, Any]:
        _write(self._file, offset)
        return {"offset_seconds": int(self._file.read_text(encoding="ascii"))}

    def _ahead(self) -> float:
        """By how much the engine's clock is ahead of ours, by the date of an answer."""
        body = {"model": self._engine.model, "prompt": "What time is it?", "max_tokens": 1}
        url = f"{self._engine.url}/v1/completions"
        try:
            answer = httpx.post(url, json=body, timeout=_ANSWER_SECONDS, trust_env=False)
            document = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise FaultError(f"the engine does not tell its time: {error!r}") from None
        if "created" not in document:
            said = f"{answer.status_code}: {document.get('error')}"
            raise FaultError(f"the engine does not tell its time: {said}")
        return float(document["created"]) - time.time()


def _library() -> Path:
    """Where the package has it; importing the package would change this process."""
    spec = find_spec("libfaketime")
    places = (spec.submodule_search_locations or ()) if spec else ()
    for place in places:
        for found in Path(place).rglob("libfaketime.so.1"):
            return found
    raise ChaosError('moving the clock needs pip install "pytest-phase5[chaos]" on Linux')


def _write(file: Path, offset: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(f"{offset:+d}\n", encoding="ascii")
    partial.replace(file)
