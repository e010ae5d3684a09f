"""Writers of a store that are killed: run as a script, so that it forks from one small process.

Each writer is a fork that writes one change after the other, in an order that follows from the
generation alone. Whoever looks on knows therefore what every generation must hold.
"""

import io
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from gate_builders import policy
from store_builders import (
    GOVERNOR,
    HTTP2,
    NOW,
    OTHER,
    SOUND,
    file_store,
    git_store,
    record,
    remote,
)

from gates.history import History
from gates.stages import Event
from gates.standing import Cause, Standing
from gates.store import Snapshot, Store, StoreError
from gates.transitions import moved

#: What the generations bring, again and again. The drill lets its candidate return.
ORDER: list[tuple[Event, str, dict[str, Any]]] = [
    (Event.ROLLBACK, GOVERNOR, {"cause": Cause.VERDICT, "candidate": OTHER}),
    (Event.PROMOTE, HTTP2, {}),
    (Event.HOLD, HTTP2, {}),
    (Event.RESUME, HTTP2, {}),
    (Event.PROMOTE, HTTP2, {"brakes": {HTTP2: ["b1"]}}),
    (Event.ROLLBACK, HTTP2, {"cause": Cause.DRILL, "brakes": {HTTP2: ["b1"]}}),
    (Event.PROMOTE, GOVERNOR, {}),
]

Flags = dict[str, Standing]


def following(generation: int, flags: Flags) -> tuple[Event, Flags]:
    """The change that leads away from a generation."""
    event, flag, given = ORDER[generation % len(ORDER)]
    now = NOW + timedelta(hours=generation)
    given = {"now": now, "reason": "a reason", "candidate": SOUND, **given}
    return event, moved(policy(), flags, [flag], event, **given)


def write_next(store: Store) -> Snapshot:
    """One change."""
    before = store.read()
    event, after = following(before.generation, dict(before.flags))
    return store.write(before, after, record(event))


class Onlooker:
    """Knows what every generation must hold, and checks a store after each death."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.states = [dict(store.read().flags)]

    def check(self, least: int, most: int) -> int:
        """The store is whole, and at one of these generations."""
        found, history = self._now()
        while len(self.states) <= found.generation:
            state = self.states[-1]
            _, after = following(len(self.states) - 1, state)
            self.states.append({**state, **after})
        assert least <= found.generation <= most, (least, found.generation, most)
        assert dict(found.flags) == self.states[found.generation]
        assert history.problems == (), history.problems
        assert [r.generation for r in history.records] == [*range(1, found.generation + 1)]
        return found.generation

    def _now(self) -> tuple[Snapshot, History]:
        """State and history of one moment: a push outlives the process that began it."""
        while True:
            found, history = self.store.read(), self.store.history()
            if self.store.read() == found:
                return found, history


def killed_at_random(store: Store, count: int, longest: float, draw: random.Random) -> int:
    """Kill writers after a random time; what they had acknowledged must be there.

    Returns:
        the generation at the end.
    """
    onlooker = Onlooker(store)
    generation = 0
    for _ in range(count):
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            while True:
                done = write_next(store).generation
                os.write(theirs, done.to_bytes(4))
        os.close(theirs)
        time.sleep(draw.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(ours, "rb") as pipe:
            acknowledged = pipe.read()
        known = int.from_bytes(acknowledged[-4:]) if acknowledged else generation
        generation = onlooker.check(known, known + 1)
    return generation


#: Calls of the system, also inside Python's files, after which something is different.
CHANGES = {
    *("open", "write", "pwrite", "fsync", "fcntl", "close", "replace", "rename", "unlink", "mkdir"),
    *("fchmod", "fchown", "ftruncate", "truncate", "flock"),
}


def _of_the_system(function: Callable[..., object]) -> bool:
    """Not a method of a text, or of a file in memory, that happens to have such a name."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, io.IOBase):
        return not isinstance(owner, (io.StringIO, io.BytesIO))
    return function.__module__ in {"posix", "fcntl", "_io"}


@contextmanager
def dying_at(call: int) -> Iterator[None]:
    """Die before one call of the system that changes something, or before the end."""
    count = 0

    def watch(_: FrameType, event: str, function: Callable[..., object]) -> None:
        nonlocal count
        if event == "c_call" and function.__name__ in CHANGES and _of_the_system(function):
            if count == call:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)


@contextmanager
def dying_halfway(call: int) -> Iterator[None]:
    """Die in one write to a file, when half of the bytes are there."""
    count = 0
    whole = os.write

    def half(descriptor: int, data: bytes) -> int:
        nonlocal count
        if count == call:
            whole(descriptor, bytes(data)[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        return whole(descriptor, data)

    os.write = half
    try:
        yield
    finally:
        os.write = whole


def killed_everywhere(store: Store, dying: Callable[[int], Any]) -> tuple[int, int]:
    """Kill one writer at each possible place, on what the one before left; the last one lives.

    Returns:
        the number of places, and in how many of them the change had taken effect.
    """
    onlooker = Onlooker(store)
    generation, place, effective = 0, 0, 0
    while True:
        child = os.fork()
        if child == 0:
            with dying(place):
                write_next(store)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert status == 0
            onlooker.check(generation + 1, generation + 1)
            return place, effective
        before, generation = generation, onlooker.check(generation, generation + 1)
        effective += generation - before
        place += 1


def raced(stores: list[Store], rounds: int) -> list[list[str]]:
    """Two processes decide on one generation and write at the same time.

    Returns:
        for each round what became of both.
    """
    onlooker = Onlooker(stores[0])
    return [_race(stores, onlooker, generation) for generation in range(rounds)]


def _race(stores: list[Store], onlooker: Onlooker, generation: int) -> list[str]:
    gate, opened = os.pipe()
    fates = [_racer(store, gate, opened) for store in stores]
    os.close(gate)
    for ready, _ in fates:
        os.read(ready, 1)
    os.close(opened)  # both read the end of it at once
    found = []
    for ready, child in fates:
        with os.fdopen(ready, "rb") as pipe:
            found.append(pipe.read().decode())
        os.waitpid(child, 0)
    onlooker.check(generation + 1, generation + 1)
    return found


def _racer(store: Store, gate: int, opened: int) -> tuple[int, int]:
    ours, theirs = os.pipe()
    child = os.fork()
    if child:
        os.close(theirs)
        return ours, child
    os.close(opened)
    before = store.read()
    event, after = following(before.generation, dict(before.flags))
    mine = replace(record(event), who=f"process {os.getpid()}")
    os.write(theirs, b"!")
    os.read(gate, 1)
    try:
        fate = f"won {store.write(before, after, mine).generation}"
    except StoreError as error:
        fate = f"{type(error).__name__}: {error}"
    os.write(theirs, fate.encode())
    os._exit(0)


def main(what: str, folder: Path, count: int, seed: int) -> object:
    """One kind of death, and what came of it."""
    draw = random.Random(seed)  # noqa: S311 - moments of death, no secrets
    if what.startswith("git"):
        bare = remote(folder)
        stores: list[Store] = [git_store(bare, folder / name) for name in ("one", "two")]
    else:
        stores = [file_store(folder), file_store(folder)]
    if what.endswith("race"):
        return raced(stores, count)
    if what.endswith("random"):
        return killed_at_random(stores[0], count, 0.6 if what.startswith("git") else 0.08, draw)
    return killed_everywhere(stores[0], dying_at if what == "calls" else dying_halfway)


if __name__ == "__main__":
    outcome = main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    sys.stdout.write(json.dumps(outcome))
