"""The ledger's minutes as columns: what the live tests fold."""

from dataclasses import dataclass, fields
from typing import Final, TypeAlias

import numpy as np

from gates.eprocess import Array, Numbers

#: Minutes in an hour, after each of which the evidence for a rollback gets one more start.
_HOUR: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What happened in one arm, one row a minute."""

    n: Array  #: requests that count: ok, failed and cut
    bad: Array  #: failed and cut
    keyed: Array  #: bad ones, where those of one key count as fewer: see `gates.ledger.Counts`
    ended: Array  #: requests of whatever end, shed and cancelled ones too
    shed: Array
    early: Array  #: cancelled before the first token
    assigned: Array  #: what was assigned to the arm: keys where they are told, else requests
    ttft: Array  #: a column for each bucket
    latency: Array

    def part(self, which: slice) -> "Columns":
        """Some of the minutes."""
        return Columns(**{item.name: getattr(self, item.name)[which] for item in fields(self)})


#: The sums of one arm over one block of a flag that is randomised by blocks.
Totals: TypeAlias = Columns


@dataclass(frozen=True, slots=True)
class Pair:
    """A treatment block and the nearest block of control; both have one row."""

    place: int  #: the minute with which the later one was known to be whole
    treatment: Totals
    control: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class Minutes:
    """Valid minutes in order, and the pairs of blocks that became whole in them."""

    minute: Numbers  #: since 1970, UTC
    first: int  #: the first minute of the stage
    treatment: Columns
    control: Columns
    pairs: tuple[Pair, ...] = ()
    by_block: bool = False

    def __len__(self) -> int:
        return len(self.minute)

    @property
    def hours(self) -> Numbers:
        """Whole hours since the stage's first minute."""
        return (self.minute - self.first) // _HOUR

    def part(self, begin: int, end: int) -> "Minutes":
        """The minutes from one place to before another."""
        which = slice(begin, end)
        pairs = (
            Pair(p.place - begin, p.treatment, p.control)
            for p in self.pairs
            if begin <= p.place < end
        )
        return Minutes(
            minute=self.minute[which],
            first=self.first,
            treatment=self.treatment.part(which),
            control=self.control.part(which),
            pairs=tuple(pairs),
            by_block=self.by_block,
        )


def empty(buckets: tuple[int, int], minutes: int = 1) -> Columns:
    """Nothing happened."""
    none = np.zeros(minutes)
    return Columns(
        n=none,
        bad=none,
        keyed=none,
        ended=none,
        shed=none,
        early=none,
        assigned=none,
        ttft=np.zeros((minutes, buckets[0])),
        latency=np.zeros((minutes, buckets[1])),
    )


def added(one: Columns, other: Columns) -> Columns:
    """Two arms, or two stretches of the same length, together."""
    return Columns(
        **{i.name: getattr(one, i.name) + getattr(other, i.name) for i in fields(Columns)}
    )


def stacked(rows: list[Columns], buckets: tuple[int, int]) -> Columns:
    """Minutes one after another."""
    if not rows:
        return empty(buckets, 0)
    return Columns(
        **{i.name: np.concatenate([getattr(row, i.name) for row in rows]) for i in fields(Columns)}
    )
