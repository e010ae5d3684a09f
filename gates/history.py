"""The history of a store: who moved what, when and why, in a chain of digests.

`rollout/history.jsonl` beside the store's file: one line for each change, only appended to. Every
line names the digest of the line before it, and the store's file names the digest of the line
that brought it (`history_head`). So an edited, inserted, removed or cut line shows. It is a
record, never the truth: what serves is what the store's file says, and a rollback works without a
history.

A record is written before its change takes effect. A writer that dies between the two leaves a
record that nothing followed: it stands behind the head with the generation after the store's, and
is told as unfinished, not as damage.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

#: Where it stands beside the store's file.
HISTORY_FILE: Final = "rollout/history.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What happened to one flag."""

    origin: str  #: the stage before; `from` in the file
    target: str  #: the stage after; `to` in the file
    epoch: int  #: after


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One change of the store.

    `flags` and `generation` are filled in by the store when it writes.
    """

    event: str
    reason: str
    who: str
    at: datetime
    verdict: str = ""  #: SHA-256 of the verdict's file that justified it
    cause: str = ""  #: of a rollback
    candidate: str = ""
    flags: Mapping[str, Change] = field(default_factory=dict)
    generation: int = 0  #: after


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a history holds, and what is wrong with it.

    Attributes:
        records: changes that took effect, oldest first.
        unfinished: recorded changes that did not: their writer died, or could not write.
        problems: signs of damage, a line each. With one, nothing in it should be believed, and
            no promotion should rest on it.
    """

    records: tuple[Record, ...] = ()
    unfinished: tuple[Record, ...] = ()
    problems: tuple[str, ...] = ()
