"""The history of a store: who moved what, when and why, in a chain of digests. Pure.

`rollout/history.jsonl` beside the store's file: one line for each change, only appended to. Every
line names the digest of the line before it (`prev`), and the store's file names the digest of the
line that brought it (`history_head`). So an edited, inserted, removed or cut line shows. It is a
record, never the truth: what serves is what the store's file says, and a rollback works without a
history.

A record is written before its change takes effect. A writer that dies between the two leaves a
record that nothing follows: each line also names the head on which it builds (`base`), so such a
line is told from damage, as unfinished. A line that its writer did not finish stays where it is,
and the chain goes on over it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from itertools import chain
from typing import Any, Final

#: Where it stands: beside the store's file, or in the store's repository.
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
        torn: numbers of lines that their writers did not finish.
    """

    records: tuple[Record, ...] = ()
    unfinished: tuple[Record, ...] = ()
    problems: tuple[str, ...] = ()
    torn: tuple[int, ...] = ()

    def last(self, flag: str) -> Record | None:
        """The last change of a flag."""
        return next((r for r in reversed(self.records) if flag in r.flags), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One line of the file; without a record when it cannot be read."""

    number: int
    digest: str
    prev: str = ""
    base: str = ""
    store: str = ""
    record: Record | None = None


def next_line(text: str, record: Record, *, base: str, store: str) -> tuple[str, str]:
    """What to append to a history for a record, and the digest that the store's file then names.

    Args:
        text: the history so far.
        record: complete.
        base: the head that the store's file names now; empty for none.
        store: the name of the store's file: two in one folder share a history.
    """
    *_, last = [""] if not text else text.removesuffix("\n").split("\n")
    document = {
        "at": record.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "base": base,
        "candidate": record.candidate,
        "cause": record.cause,
        "event": record.event,
        "flags": {
            name: {"from": change.origin, "to": change.target, "epoch": change.epoch}
            for name, change in record.flags.items()
        },
        "generation": record.generation,
        "prev": _digest(last) if text else "",
        "reason": record.reason,
        "store": store,
        "verdict": record.verdict,
        "who": record.who,
    }
    line = json.dumps(document, sort_keys=True, ensure_ascii=False)
    torn = bool(text) and not text.endswith("\n")
    return ("\n" if torn else "") + line + "\n", _digest(line)


def verified(text: str, *, head: str, generation: int, store: str) -> History:
    """Read a history and check it against what the store's file says.

    Args:
        text: of the history; empty when there is none.
        head: the digest that the store's file names; empty for none.
        generation: of the store's file.
        store: the name of the store's file.
    """
    lines = list(_lines(text))
    ours = [line for line in lines if line.store == store and line.record]
    applied, problems = _applied(ours, head)
    checks = (_chain(lines), problems, _order(ours, applied))
    return History(
        records=tuple(line.record for line in ours if line.record and line.digest in applied),
        unfinished=tuple(
            line.record for line in ours if line.record and line.digest not in applied
        ),
        problems=tuple(chain(*checks, _generations(ours, applied, generation))),
        torn=tuple(line.number for line in lines if line.record is None),
    )


def _lines(text: str) -> Iterator[_Line]:
    parts = text.split("\n")
    for number, part in enumerate(parts, start=1):
        if part or number < len(parts):
            yield _parsed(number, part)


def _parsed(number: int, text: str) -> _Line:
    digest = _digest(text)
    try:
        row = json.loads(text)
        links = {name: _text(row[name]) for name in ("prev", "base", "store")}
        return _Line(number=number, digest=digest, record=_record(row), **links)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return _Line(number=number, digest=digest)


def _record(row: Mapping[str, Any]) -> Record:
    texts = ("event", "reason", "who", "verdict", "cause", "candidate")
    return Record(
        **{name: _text(row[name]) for name in texts},
        at=datetime.fromisoformat(row["at"]),
        flags={
            name: Change(
                origin=_text(change["from"]), target=_text(change["to"]), epoch=int(change["epoch"])
            )
            for name, change in row["flags"].items()
        },
        generation=int(row["generation"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _digest(line: str) -> str:
    return sha256(line.encode()).hexdigest()


def _chain(lines: list[_Line]) -> Iterator[str]:
    """Every line follows the one before it; only one that can be read can say so."""
    for before, line in zip([None, *lines], lines, strict=False):
        if line.record and line.prev != (before.digest if before else ""):
            yield (
                f"line {line.number} does not follow the line before it: "
                "a line was edited, inserted or removed there"
            )


def _applied(ours: list[_Line], head: str) -> tuple[set[str], list[str]]:
    """The digests of the lines that took effect: from the head back, from base to base."""
    known = {line.digest: line for line in ours}
    applied: set[str] = set()
    link = head
    while link and link not in applied:
        if link not in known:
            missing = "the line that it builds on" if applied else "the last change of the store"
            return applied, [f"{missing} ({link[:12]}) is not there: cut off, or replaced"]
        applied.add(link)
        link = known[link].base
    return applied, []


def _order(ours: list[_Line], applied: set[str]) -> Iterator[str]:
    """Each line builds on the last one before it that took effect."""
    current = ""
    for line in ours:
        if line.base != current:
            yield (
                f"line {line.number} builds on a change that the store does not have: "
                "its file was put back, or lines are missing"
            )
        if line.digest in applied:
            current = line.digest


def _generations(ours: list[_Line], applied: set[str], generation: int) -> Iterator[str]:
    """One record for each generation, up to the store's; behind it only the next one."""
    current: int | None = None
    for record, done in ((line.record, line.digest in applied) for line in ours if line.record):
        if current is not None and record.generation != current + 1:
            yield _gap(f"generation {record.generation}", current)
        if done:
            current = record.generation
    if current is not None and current != generation:
        yield _gap(f"the store is at generation {generation}", current)


def _gap(found: str, recorded: int) -> str:
    return f"behind generation {recorded}, {found}: a change was not recorded"


def entered(history: History, stage: str) -> tuple[datetime, ...]:
    """When flags were promoted to a stage, whether or not they still stand there."""
    return tuple(
        record.at
        for record in history.records
        if record.event == "promote" and any(c.target == stage for c in record.flags.values())
    )


def pauses(history: History, flag: str) -> tuple[tuple[datetime, datetime | None], ...]:
    """When a flag was held: from, and until; None for a hold that goes on.

    Minutes in which it was held do not count towards its soak.
    """
    spans: list[tuple[datetime, datetime | None]] = []
    for record in history.records:
        if flag not in record.flags:
            continue
        held = bool(spans) and spans[-1][1] is None
        if record.event == "hold" and not held:
            spans.append((record.at, None))
        elif record.event == "resume" and held:
            spans[-1] = (spans[-1][0], record.at)
    return tuple(spans)
