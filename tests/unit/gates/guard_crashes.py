"""Guards that are killed: run as a script, so that it forks from one small process.

Each guard is a fork on the same folder, store and engines. A minute passes every tenth of a
second, so that a guard is always about to write one; half-way a flag begins to do harm. After the
last death a guard is let live until all is done. It prints what it found as one JSON object.

    guard_crashes.py FOLDER KILLS SEED URL...
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from made_up_minutes import ENTERED, MadeUp, guard_on

from gates.engines import clients
from gates.file_store import FileStore
from gates.history import Record
from gates.ledger import minute_of
from gates.ledger_file import read
from gates.policy import load_policy

FLAG, OTHER = "ttft_pipeline", "http2_transport"

#: Seconds of the guard's clock for each real one.
FASTER = 600

#: Real seconds within which a guard dies: some polls, of which the first reads a ledger.
LONGEST = 0.25

#: Real seconds for the last guard, which is not killed.
PATIENCE = 60.0


def main(folder: Path, kills: int, seed: int, urls: list[str]) -> dict[str, object]:
    dice = random.Random(seed)  # noqa: S311 - a seeded test, not a secret
    store = FileStore(folder / "runtime.yaml", load_policy())
    (folder / "runtime.yaml").write_text(f"rollout: {{engines: {json.dumps(urls)}}}\n")
    before = store.read()
    flags = {
        flag: replace(
            before.flags[flag],
            stage="early",
            enabled=True,
            percentage=10.0,
            entered_at=ENTERED,
            epoch=1,
        )
        for flag in (FLAG, OTHER)
    }
    store.write(before, flags, Record(event="begin", reason="", who="test", at=ENTERED))
    begun = time.monotonic()

    def clock() -> datetime:
        real = time.monotonic() - begun
        return ENTERED + timedelta(minutes=12, seconds=FASTER * real)

    harm = 0
    for number in range(kills):
        if number == kills // 2:
            harm = minute_of(clock())
        _killed(partial(_live, folder, urls, clock, harm), dice.uniform(0, LONGEST))
    _killed(partial(_live, folder, urls, clock, harm, to_the_end=True), PATIENCE)
    return _found(folder, store)


def _killed(work: Callable[[], None], seconds: float) -> None:
    """Run in a fork, and kill it after so long, if it has not ended."""
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _live(
    folder: Path,
    urls: list[str],
    clock: Callable[[], datetime],
    harm: int,
    *,
    to_the_end: bool = False,
) -> None:
    store = FileStore(folder / "runtime.yaml", load_policy())
    evidence = MadeUp(bad={FLAG: harm} if harm else {})
    guard = guard_on(folder / "guard", store, evidence, clock)

    async def polls() -> None:
        async with clients(urls) as engines:
            while True:
                situation, _ = await guard.poll(engines)
                view = situation.store
                gone = view is not None and view.flags[FLAG].stage == "off"
                if to_the_end and gone and not guard.deeds.journal.memory.pending:
                    return

    asyncio.run(polls())


def _found(folder: Path, store: FileStore) -> dict[str, object]:
    snapshot, history = store.read(), store.history()
    minutes = {}
    for path in sorted((folder / "guard" / "ledger").iterdir()):
        ledger = read(path)
        numbers = [row.minute for row in ledger.rows]
        minutes[path.name] = {
            "rows": len(numbers),
            "in_order": numbers == list(range(numbers[0], numbers[-1] + 1)),
            "problems": list(ledger.problems),
        }
    return {
        "stages": {flag: snapshot.flags[flag].stage for flag in (FLAG, OTHER)},
        "epochs": {flag: snapshot.flags[flag].epoch for flag in (FLAG, OTHER)},
        "rollbacks": [list(r.flags) for r in history.records if r.event == "rollback"],
        "problems": list(history.problems),
        "ledgers": minutes,
    }


if __name__ == "__main__":
    place, count, start, *addresses = sys.argv[1:]
    print(json.dumps(main(Path(place), int(count), int(start), addresses)))  # noqa: T201 - its result
