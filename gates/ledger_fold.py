"""From rows to columns, one row after another: what is sound counts, what is not is named.

State depends on the rows and their order only, so folding a ledger in one go or row by row as
it grows is the same.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import numpy as np

from gates.ledger import CONTROL, TREATMENT, Counts, Header, Row, Unit, row_line
from gates.minutes import Columns, Minutes, Pair, added, empty, stacked

#: Minutes in a block of a flag that is randomised by blocks; the first is not counted, since
#: streams of the block before still run.
BLOCK_MINUTES: Final = 5

#: A block with fewer valid minutes than this is no observation.
_LEAST_MINUTES: Final = 3

#: Blocks further apart than this do not pair: the hour of the day would differ.
_FURTHEST_BLOCKS: Final = 12

#: Two in one engine, or three in the fleet, within so many minutes are a crash class event.
CRASH_MINUTES: Final = 10
CRASHES_OF_ONE: Final = 2
CRASHES_OF_ALL: Final = 3

#: Busy keys that are remembered for each arm; one with a fifth of the traffic stays among them.
_MOST_KEYS: Final = 64


@dataclass(slots=True)
class _Block:
    """A block of one engine that may still grow."""

    number: int
    arm: str
    minutes: int
    total: Columns


@dataclass(slots=True)
class LedgerFold:
    """Owns what is known of a ledger besides its counts."""

    header: Header
    first: int | None = None
    last: int | None = None
    valid: int = 0  #: minutes with traffic that count towards the soak
    gaps: int = 0  #: minutes that are missing between the first and the last
    invalid: dict[str, int] = field(default_factory=dict)  #: minutes by reason
    paused: int = 0  #: valid minutes that do not count towards the soak
    disorder: str = ""  #: why the order of rows cannot be trusted; empty while it can
    crash: str = ""  #: the crash class event, the first one
    busiest: dict[str, dict[str, int]] = field(default_factory=dict)  #: by arm and key
    cells: dict[str, list[int]] = field(default_factory=dict)
    _seen: dict[int, bytes] = field(default_factory=dict)
    _crashes: deque[tuple[int, str, int]] = field(default_factory=deque)
    _open: dict[str, _Block] = field(default_factory=dict)
    _waiting: dict[str, _Block] = field(default_factory=dict)  #: the last unpaired, by engine

    def fold(self, rows: Iterable[Row]) -> Minutes:
        """Take rows in; the minutes among them that count."""
        minutes: list[int] = []
        arms: dict[str, list[Columns]] = {TREATMENT: [], CONTROL: []}
        pairs: list[Pair] = []
        for row in rows:
            if not self._in_order(row):
                continue
            self._count_crashes(row)
            reason = row.invalid or self._provenance(row)
            if reason:
                self.invalid[reason] = self.invalid.get(reason, 0) + 1
                continue
            counts = self._counted(row)
            pairs.extend(self._pairs(row, counts, len(minutes)))
            minutes.append(row.minute)
            self._take(row, counts)
            for arm, columns in arms.items():
                columns.append(self._columns(c for c in counts if c.arm == arm))
        return Minutes(
            minute=np.array(minutes, dtype=np.int64),
            first=self.first or 0,
            treatment=stacked(arms[TREATMENT], self._buckets),
            control=stacked(arms[CONTROL], self._buckets),
            pairs=tuple(pairs),
            by_block=self.header.unit is Unit.BLOCK,
        )

    def count(self, minutes: Minutes, cells: Mapping[str, Sequence[int]]) -> None:
        """Take minutes in that were columns from the start, all of them valid."""
        self.first = minutes.first if self.first is None else self.first
        self.last = int(minutes.minute[-1])
        self.valid += int(((minutes.treatment.ended + minutes.control.ended) > 0).sum())
        self._add(cells)

    def shares_of_busiest(self) -> Iterator[tuple[str, int, int]]:
        """For each arm: its name, the requests of its busiest key, and all its requests."""
        for arm, keys in self.busiest.items():
            every = keys[_ALL]
            yield arm, max((n for key, n in keys.items() if key != _ALL), default=0), every

    def _in_order(self, row: Row) -> bool:
        digest = blake2b(row_line(row).encode(), digest_size=8).digest()
        if self.last is not None and row.minute <= self.last:
            if self._seen.get(row.minute) != digest:
                self.disorder = self.disorder or (
                    f"minute {clock(row.minute)} came after {clock(self.last)}, and differs"
                )
            return False
        self.first = row.minute if self.first is None else self.first
        self.gaps += 0 if self.last is None else row.minute - self.last - 1
        self.last = row.minute
        self._seen[row.minute] = digest
        return True

    def _provenance(self, row: Row) -> str:
        header = self.header
        if row.commit != header.commit:
            return f"build {row.commit or 'unknown'}, not {header.commit}"
        if row.config_sha256 != header.config_sha256:
            return f"configuration {row.config_sha256 or 'unknown'}, not {header.config_sha256}"
        return "" if row.engines else "no engine answered"

    def _count_crashes(self, row: Row) -> None:
        self._crashes.extend((row.minute, engine, n) for engine, n in row.crashes.items())
        while self._crashes and self._crashes[0][0] <= row.minute - CRASH_MINUTES:
            self._crashes.popleft()
        of_one: dict[str, int] = {}
        for _, engine, n in self._crashes:
            of_one[engine] = of_one.get(engine, 0) + n
        most, every = max(of_one.values(), default=0), sum(of_one.values())
        if not self.crash and (most >= CRASHES_OF_ONE or every >= CRASHES_OF_ALL):
            self.crash = (
                f"{most} unplanned restarts or stalls of one engine and {every} in all within "
                f"{CRASH_MINUTES} minutes, at {clock(row.minute)}"
            )

    def _counted(self, row: Row) -> list[Counts]:
        """The first minute of a block still shows the arm before."""
        if self.header.unit is Unit.BLOCK and row.minute % BLOCK_MINUTES == 0:
            return []
        return list(row.counts)

    def _take(self, row: Row, counts: list[Counts]) -> None:
        self.paused += bool(row.paused)
        self.valid += not row.paused and any(c.ended for c in counts)
        self._add(row.cells)
        for c in counts:
            keys = self.busiest.setdefault(c.arm, {_ALL: 0})
            keys[_ALL] += c.ended
            for key, n in c.busiest.items():
                keys[key] = keys.get(key, 0) + n
            _forget(keys)

    def _add(self, cells: Mapping[str, Sequence[int]]) -> None:
        for name, cell in cells.items():
            sums = self.cells.setdefault(name, [0] * len(cell))
            sums[:] = (a + b for a, b in zip(sums, cell, strict=True))

    @property
    def _buckets(self) -> tuple[int, int]:
        return len(self.header.ttft_edges) + 1, len(self.header.latency_edges) + 1

    def _columns(self, counts: Iterable[Counts]) -> Columns:
        total = empty(self._buckets)
        for c in counts:
            total = added(total, _one(c, self._buckets))
        return total

    def _pairs(self, row: Row, counts: list[Counts], place: int) -> Iterator[Pair]:
        """Blocks that this minute shows to be whole, each with its nearest of the other arm."""
        if self.header.unit is not Unit.BLOCK:
            return
        number = row.minute // BLOCK_MINUTES
        for engine in sorted(e for e, block in self._open.items() if block.number < number):
            yield from self._paired(engine, self._open.pop(engine), place)
        for c in counts:
            block = self._open.setdefault(c.engine, _Block(number, c.arm, 0, empty(self._buckets)))
            if block.arm != c.arm:  # both arms in one block: it was not assigned as a whole
                block.minutes = -BLOCK_MINUTES
            block.minutes += 1
            block.total = added(block.total, _one(c, self._buckets))

    def _paired(self, engine: str, block: _Block, place: int) -> Iterator[Pair]:
        if block.minutes < _LEAST_MINUTES:
            return
        other = self._waiting.get(engine)
        near = other is not None and block.number - other.number <= _FURTHEST_BLOCKS
        if other is None or not near or other.arm == block.arm:
            self._waiting[engine] = block
            return
        del self._waiting[engine]
        treatment, control = (block, other) if block.arm == TREATMENT else (other, block)
        yield Pair(place, treatment.total, control.total)


#: The entry of all requests of an arm beside those of its busy keys; no digest is empty.
_ALL: Final = ""


def _one(c: Counts, buckets: tuple[int, int]) -> Columns:
    single = {
        name: np.array([float(getattr(c, name))])
        for name in ("n", "bad", "keyed", "ended", "shed", "early", "assigned")
    }
    ttft, latency = (
        np.array([given or (0,) * size], dtype=np.float64)
        for given, size in zip((c.ttft, c.latency), buckets, strict=True)
    )
    return Columns(**single, ttft=ttft, latency=latency)


def _forget(keys: dict[str, int]) -> None:
    """Keep the busiest keys; a key that dominates is always among them."""
    if len(keys) > 2 * _MOST_KEYS:
        kept = sorted(keys.items(), key=lambda item: (-item[1], item[0]))[:_MOST_KEYS]
        keys_of_all = keys[_ALL]
        keys.clear()
        keys.update({_ALL: keys_of_all, **dict(kept)})


def clock(minute: int) -> str:
    """A minute as people write it."""
    return str(np.datetime64(minute, "m")) + "Z"
