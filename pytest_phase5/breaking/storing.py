"""Moves the store of a configuration as a promotion does, and shows it: one JSON line each.

`python -P -m pytest_phase5.breaking.storing CONFIG [FLAG]` promotes a flag, or only shows; run
where the store is to be met under a fault. It writes what a promotion writes when all its
conditions hold, by the same way; of verdicts it knows nothing, which are not what is broken.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gates.history import Record
from gates.stages import Event
from gates.standing import candidate
from gates.store import Store, StoreError, open_store
from gates.transitions import moved
from pytest_phase5.breaking.monitoring import FLAG


def main(config: Path, flag: str | None) -> int:
    """Do one of the two; 1 where the store refuses, with its own words."""
    from gates.policy import policy_beside

    try:
        store = open_store(config)
        if flag is not None:
            before, now = store.read(), datetime.now(UTC)
            after = moved(
                policy_beside(config),
                before.flags,
                (flag,),
                Event.PROMOTE,
                now=now,
                candidate=candidate("chaos", "chaos"),
            )
            record = Record(event=Event.PROMOTE, reason="", who="chaos", at=now)
            store.write(before, after, record)
        sys.stdout.write(json.dumps(_shown(store)) + "\n")
    except StoreError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _shown(store: Store) -> dict[str, Any]:
    snapshot = store.read()
    flag = snapshot.flags[FLAG]
    return {
        "generation": snapshot.generation,
        "stage": flag.stage,
        "percentage": flag.percentage,
        "problems": list(store.history().problems),
    }


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] if sys.argv[2:] else None))
