"""The guard's memory of rollbacks: `journal.jsonl`, one line for each step, appended and fsynced.

A line is written before what it announces is done, so that a guard that was killed in between
does it again; every step may be done twice. The last line may be torn: what it announced has not
happened. A line that cannot be read anywhere else means that the file was damaged: it is set
aside, and the guard says so and begins a new one, since rollbacks must go on; what engines still
brake is found again by asking them.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from gates.durable import append_to_file
from gates.guarding.situation import Pending
from gates.standing import Cause

JOURNAL_FILE: Final = "journal.jsonl"


class JournalError(ValueError):
    """A line that is no step of a rollback; the message says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What the journal says."""

    pending: tuple[Pending, ...] = ()
    settled: frozenset[str] = frozenset()
    """Brakes of rollbacks that the store knows about."""

    def find(self, id: str) -> Pending:  # noqa: A002 - it is one
        """A rollback by its id.

        Raises:
            KeyError: there is none that is open.
        """
        return {each.id: each for each in self.pending}[id]


def opened(each: Pending) -> dict[str, Any]:
    """A rollback was decided."""
    return {"step": "opened", **asdict(each), "cause": each.cause.value}


def braked(id: str, brakes: Iterable[str]) -> dict[str, Any]:  # noqa: A002 - it is one
    """Engines gave ids."""
    return {"step": "braked", "id": id, "brakes": sorted(brakes)}


def acknowledged(id: str, epochs: Mapping[str, int]) -> dict[str, Any]:  # noqa: A002 - it is one
    """The store has flags at 0 %."""
    return {"step": "acknowledged", "id": id, "epochs": dict(epochs)}


def closed(id: str) -> dict[str, Any]:  # noqa: A002 - it is one
    """It is everywhere."""
    return {"step": "closed", "id": id}


def settled(brakes: Iterable[str]) -> dict[str, Any]:
    """Brakes that were seen while the store had their flag at 0 %."""
    return {"step": "settled", "brakes": sorted(brakes)}


def after(memory: Memory, step: Mapping[str, Any]) -> Memory:
    """What is known after one more step. A step about a rollback that is over says nothing.

    Raises:
        JournalError: it is none.
    """
    try:
        kind = step["step"]
        if kind == "settled":
            return replace(memory, settled=memory.settled | set(map(str, step["brakes"])))
        name = str(step["id"])
        if kind == "opened":
            return _with(memory, _pending(step))
        known = {each.id: each for each in memory.pending}
        if name not in known:
            return memory
        return _STEPS[kind](memory, known[name], step)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise JournalError(f"not a step of a rollback: {error!r}") from error


def _with(memory: Memory, each: Pending) -> Memory:
    others = tuple(other for other in memory.pending if other.id != each.id)
    return replace(memory, pending=(*others, each))


def _braked(memory: Memory, each: Pending, step: Mapping[str, Any]) -> Memory:
    brakes = tuple(dict.fromkeys((*each.brakes, *map(str, step["brakes"]))))
    return _settling(_with(memory, replace(each, brakes=brakes)), each.id)


def _acknowledged(memory: Memory, each: Pending, step: Mapping[str, Any]) -> Memory:
    epochs = {**each.acknowledged, **{str(f): int(e) for f, e in step["epochs"].items()}}
    return _settling(_with(memory, replace(each, acknowledged=epochs)), each.id)


def _closed(memory: Memory, each: Pending, step: Mapping[str, Any]) -> Memory:
    del step
    others = tuple(other for other in memory.pending if other.id != each.id)
    return replace(memory, pending=others, settled=memory.settled | set(each.brakes))


def _settling(memory: Memory, name: str) -> Memory:
    """Brakes of a rollback that the store knows in full are explained for ever."""
    each = memory.find(name)
    if each.unacknowledged:
        return memory
    return replace(memory, settled=memory.settled | set(each.brakes))


_STEPS: Final = {"braked": _braked, "acknowledged": _acknowledged, "closed": _closed}


def _pending(step: Mapping[str, Any]) -> Pending:
    fields = {name: value for name, value in step.items() if name != "step"}
    return Pending(
        **{
            **fields,
            "cause": Cause(step["cause"]),
            "flags": {str(f): int(e) for f, e in step["flags"].items()},
            "candidates": dict(step["candidates"]),
            "brakes": tuple(step["brakes"]),
            "acknowledged": dict(step["acknowledged"]),
        }
    )


@dataclass(slots=True)
class Journal:
    """Owns the file. One guard at a time: whoever opens it holds the folder's lock."""

    path: Path
    memory: Memory = field(default_factory=Memory)
    damage: str = ""  #: what was found at the start

    @classmethod
    def open(cls, folder: Path) -> "Journal":
        """Read what is there; a torn last line is cut off, a damaged file set aside."""
        journal = cls(folder / JOURNAL_FILE)
        if not journal.path.exists():
            return journal
        raw = journal.path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        try:
            journal._replay(whole.decode("utf-8", errors="replace"))
        except JournalError as error:
            aside = journal.path.with_name(f"{JOURNAL_FILE}.damaged-{os.getpid()}")
            journal.path.replace(aside)
            journal.memory = Memory()
            journal.damage = f"{error}; set aside as {aside.name}"
            return journal
        if whole != raw:
            os.truncate(journal.path, len(whole))
        return journal

    def write(self, step: Mapping[str, Any]) -> None:
        """Append a step; it is on the disk when this returns."""
        self.memory = after(self.memory, step)
        append_to_file(self.path, (json.dumps(step, sort_keys=True) + "\n").encode())

    def _replay(self, text: str) -> None:
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                self.memory = after(self.memory, json.loads(line))
            except (ValueError, AttributeError) as error:
                raise JournalError(f"{self.path}:{number}: {error}") from error
