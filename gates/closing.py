"""A minute closed: the difference of two readings of every engine's counters, as a row.

What cannot be known makes the minute invalid: an engine that was lost or is new, or a counter
that fell, since the engine began anew and nobody saw how it ended. Crashes are kept even so.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from gates.ledger import CONTROL, TREATMENT, Counts, Row


class CounterResetError(ValueError):
    """A counter fell between two readings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One engine's counters of one flag, all since the engine started."""

    engine: str
    commit: str
    config_sha256: str
    counts: tuple[Counts, ...]  #: one for each arm
    started: float = 0.0  #: seconds since 1970: with another start its counters began anew
    crashes: int = 0  #: unplanned restarts and stalls of its runtime, and of itself
    cells: Mapping[str, tuple[int, int, int, int]] = field(default_factory=dict)


def closed(
    minute: int,
    before: Mapping[str, Reading],
    after: Mapping[str, Reading],
    *,
    by_block: bool = False,
) -> Row:
    """The row of a minute.

    Args:
        minute: since 1970, UTC.
        before: each engine's counters at its beginning, by engine.
        after: those at its end.
        by_block: keep engines apart, since one has one arm at a time.
    """
    engines = tuple(sorted(after))
    crashes = {e: crashes_since(before[e], after[e]) for e in engines if e in before}
    row = Row(
        minute=minute,
        engines=engines,
        crashes={engine: n for engine, n in crashes.items() if n > 0},
        commit=_same(reading.commit for reading in after.values()),
        config_sha256=_same(reading.config_sha256 for reading in after.values()),
    )
    reason = _doubt(before, after)
    if reason:
        return replace(row, invalid=reason)
    try:
        differences = [_difference(before[e], after[e]) for e in engines]
    except CounterResetError as error:
        return replace(row, invalid=str(error))
    counts = [c for reading in differences for c in reading.counts]
    return replace(
        row,
        counts=_apart(differences) if by_block else _merged(counts),
        cells=_cells(differences),
    )


def crashes_since(before: Reading, after: Reading) -> int:
    """How often an engine crashed between two readings, the life that ended left out."""
    return after.crashes - (before.crashes if before.started == after.started else 0)


def _doubt(before: Mapping[str, Reading], after: Mapping[str, Reading]) -> str:
    if not after:
        return "no engine answered"
    lost, new = sorted(set(before) - set(after)), sorted(set(after) - set(before))
    if lost:
        return f"no answer from {', '.join(lost)}"
    if new:
        return f"{', '.join(new)} began within the minute"
    anew = sorted(e for e in after if before[e].started != after[e].started)
    if anew:
        return f"{', '.join(anew)} began anew within the minute"
    for name in ("commit", "config_sha256"):
        seen = {getattr(reading, name) for reading in after.values()}
        if len(seen) > 1:
            return f"engines differ in {name}: {', '.join(sorted(seen))}"
    return ""


def _difference(before: Reading, after: Reading) -> Reading:
    earlier = {counts.arm: counts for counts in before.counts}
    counts = tuple(
        _less(after.engine, now, earlier.get(now.arm, Counts(arm=now.arm))) for now in after.counts
    )
    cells: dict[str, Any] = {
        name: _column(after.engine, "cells", cell, before.cells.get(name, (0,) * len(cell)))
        for name, cell in after.cells.items()
    }
    return replace(after, counts=counts, cells=cells)


def _less(engine: str, now: Counts, before: Counts) -> Counts:
    values: dict[str, Any] = {"arm": now.arm}
    for item in fields(Counts):
        a, b = getattr(now, item.name), getattr(before, item.name)
        if isinstance(a, tuple):
            values[item.name] = _column(engine, item.name, a, b or (0,) * len(a))
        elif isinstance(a, Mapping):
            values[item.name] = {
                key: n - b.get(key, 0) for key, n in a.items() if n > b.get(key, 0)
            }
        elif isinstance(a, int):
            (values[item.name],) = _column(engine, item.name, (a,), (b or 0,))
    return Counts(**values)


def _column(
    engine: str, name: str, now: tuple[int, ...], before: tuple[int, ...]
) -> tuple[int, ...]:
    differences = tuple(a - b for a, b in zip(now, before, strict=True))
    if min(differences, default=0) < 0:
        raise CounterResetError(f"counter {name!r} of {engine} fell: it began anew")
    return differences


def _apart(readings: list[Reading]) -> tuple[Counts, ...]:
    """Arms by engine; an arm in which nothing ended is not the one that the block has."""
    return tuple(
        replace(counts, engine=reading.engine)
        for reading in readings
        for counts in reading.counts
        if counts.ended
    )


def _merged(counts: list[Counts]) -> tuple[Counts, ...]:
    arms = ([c for c in counts if c.arm == arm] for arm in (TREATMENT, CONTROL))
    return tuple(_sum(arm) for arm in arms if arm)


def _sum(counts: list[Counts]) -> Counts:
    values: dict[str, Any] = {"arm": counts[0].arm}
    for item in fields(Counts):
        column = [getattr(c, item.name) for c in counts]
        if isinstance(column[0], tuple):
            values[item.name] = tuple(sum(bucket) for bucket in zip(*column, strict=True))
        elif isinstance(column[0], Mapping):
            keys = {key for busiest in column for key in busiest}
            values[item.name] = {key: sum(b.get(key, 0) for b in column) for key in sorted(keys)}
        elif not isinstance(column[0], str):
            values[item.name] = None if None in column else sum(column)
    return Counts(**values)


def _cells(readings: list[Reading]) -> dict[str, tuple[int, int, int, int]]:
    cells: dict[str, Any] = {}
    for reading in readings:
        for name, cell in reading.cells.items():
            sums = cells.get(name, (0,) * len(cell))
            cells[name] = tuple(a + b for a, b in zip(sums, cell, strict=True))
    return cells


def _same(values: Iterator[str]) -> str:
    seen = set(values)
    return seen.pop() if len(seen) == 1 else ""
