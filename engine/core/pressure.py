"""What to do when a runtime process holds more memory than it may: a ladder.

- `evict`: the prefix store shrinks, which costs nobody an answer; for `TRY_SECONDS`, and
  again when it helped and the pressure is back.
- `shrink`: the limit of streams is halved, every `TRY_SECONDS`, down to a floor, and no prefix
  is kept; at the floor for `FLOOR_SECONDS` at most.
- `shed`: new requests are turned away, to come back later, and no prefix is kept; for
  `SHED_SECONDS`, whatever is read.
- `renew`: the process is replaced and live streams go on in the new one; until the caller says
  `renewed`, `RENEW_SECONDS` at most.
- `unreachable`: a fresh process held too much as well, so nothing is done that costs anybody
  an answer: what is kept is dropped every `SWEEP_SECONDS`, which gives memory back once the
  load is gone; until `COOL_DOWN_SECONDS` after the renewal.

A rung is entered only when the one before did not bring the process under its budget in its
time. Measures are taken above the budget and given up below `RELIEF` of it, so that a
reading near the budget does not switch them on and off. Shedding and renewing come at most
once in `COOL_DOWN_SECONDS` each: a memory that never drops cannot make an engine reject, or
restart, for ever.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Final

#: Below this share of the budget the pressure is over. A tenth is more than what one stream
#: adds, so giving a measure up does not bring the pressure straight back.
RELIEF: Final = 0.9
#: How long a measure may take to show: freed memory is read a second later, and streams
#: above a lower limit end one by one.
TRY_SECONDS: Final = 5.0
#: Without pressure for this long, the limit doubles again: three tries, so that it rises
#: slower than it falls.
RAISE_SECONDS: Final = 15.0
#: At the floor of the limit, with the pressure coming and going: no longer than this.
FLOOR_SECONDS: Final = 60.0
#: Clients come back after `Retry-After`; most give up on a service within half a minute.
SHED_SECONDS: Final = 20.0
#: Loading a large model takes minutes, and the runtime gives a start ten of them.
RENEW_SECONDS: Final = 900.0
#: While the budget is out of reach. Prefixes that live for half a minute are still worth it.
SWEEP_SECONDS: Final = 30.0
#: Long enough that shedding and restarting cost at most a few per cent of the time.
COOL_DOWN_SECONDS: Final = 600.0


class Rung(StrEnum):
    """Where the ladder stands."""

    REST = "rest"
    EVICT = "evict"
    SHRINK = "shrink"
    SHED = "shed"
    RENEW = "renew"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The process that holds most, in bytes; and the limit of streams without the ladder."""

    held: int  #: 0: not known
    budget: int
    prefix_bytes: int
    limit: int


@dataclass(frozen=True, slots=True)
class Evict:
    """Shrink the prefix store to this size."""

    keep_bytes: int


@dataclass(frozen=True, slots=True)
class Shrink:
    """At most this many streams at once."""

    limit: int


@dataclass(frozen=True, slots=True)
class Shed:
    """Turn new requests away for this long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Renew:
    """Replace the processes; call `renewed` when that has ended, however it ended."""


Action = Evict | Shrink | Shed | Renew


class PressureLadder:
    """Reads, and climbs up and down.

    Args:
        floor: the limit of streams is not shrunk below it.

    Raises:
        ValueError: the floor is below 1.
    """

    def __init__(self, floor: int) -> None:
        if floor < 1:
            raise ValueError(f"the floor of the limit must be at least 1, given {floor}")
        self._floor = floor
        self._rung = Rung.REST
        self._cap: int | None = None
        self._tried = -inf  # the last measure
        self._helped = False  # it brought the process under its budget
        self._at_floor = inf  # since when the cap is as low as it gets
        self._shed = -inf  # the last shedding began
        self._renewal = -inf  # the last renewal began
        self._renewed = -inf  # and ended

    @property
    def rung(self) -> Rung:
        """Where it stands."""
        return self._rung

    def capped(self, limit: int) -> int:
        """The limit of streams under the ladder."""
        return limit if self._cap is None else min(limit, self._cap)

    def shed_seconds(self, now: float) -> float:
        """How long new requests are still turned away; 0 when they are not.

        It runs out by itself: shedding ends also when nobody reads any more.
        """
        if self._rung is not Rung.SHED:
            return 0.0
        return max(0.0, self._shed + SHED_SECONDS - now)

    def look(self, reading: Reading, now: float) -> list[Action]:
        """Take a reading, once a second or so; returns what to do now, in order."""
        if self._rung is Rung.RENEW:
            return self._await_renewal(now)
        if self._rung is Rung.SHED and not self.shed_seconds(now):
            return self._end_shedding(reading, now)
        if self._rung is Rung.UNREACHABLE and self._cooled(self._renewed, now):
            self._rung = Rung.REST
        if not reading.held:
            return []
        if reading.held > reading.budget:
            return self._pressed(reading, now)
        self._helped = True
        if reading.held <= RELIEF * reading.budget:
            self._relieved(now)
        return self._raise(reading, now)

    def renewed(self, now: float) -> None:
        """The processes were replaced, or could not be."""
        if self._rung is Rung.RENEW:
            self._renewed = now
            self._calm(now)

    def _pressed(self, reading: Reading, now: float) -> list[Action]:
        """Above the budget: begin, wait, try again, or climb."""
        patience = SWEEP_SECONDS if self._rung is Rung.UNREACHABLE else TRY_SECONDS
        if now - self._tried < patience:
            return []
        if self._rung in (Rung.SHED, Rung.UNREACHABLE):
            self._tried = now
            return [Evict(0)]
        if self._rung is Rung.REST:
            return self._evict(reading, now)
        if self._rung is Rung.EVICT:
            return self._evict(reading, now) if self._helped else self._shrink(reading, now)
        worn_out = now - self._at_floor >= FLOOR_SECONDS or not self._helped
        if self.capped(reading.limit) <= self._floor and worn_out:
            return self._leave_floor(now)
        return self._shrink(reading, now)

    def _evict(self, reading: Reading, now: float) -> list[Action]:
        """Give up as much of the prefix store as brings the pressure to an end."""
        surplus = reading.held - int(RELIEF * reading.budget)
        self._try(Rung.EVICT, now)
        return [Evict(max(0, reading.prefix_bytes - surplus))]

    def _shrink(self, reading: Reading, now: float) -> list[Action]:
        current = self.capped(reading.limit)
        self._cap = min(current, max(self._floor, current // 2))
        self._try(Rung.SHRINK, now)
        if self._cap > self._floor:
            self._at_floor = inf
        else:
            self._at_floor = min(self._at_floor, now)
        return [Evict(0), Shrink(self._cap)] if self._cap < current else [Evict(0)]

    def _leave_floor(self, now: float) -> list[Action]:
        if not self._cooled(self._renewed, now):
            self._rung, self._cap, self._at_floor = Rung.UNREACHABLE, None, inf
            return []
        if not self._cooled(self._shed, now):
            return self._renew(now)
        self._rung, self._shed, self._tried = Rung.SHED, now, now
        return [Evict(0), Shed(SHED_SECONDS)]

    def _end_shedding(self, reading: Reading, now: float) -> list[Action]:
        if reading.held > reading.budget:
            return self._renew(now)
        self._calm(now)
        return []

    def _renew(self, now: float) -> list[Action]:
        self._rung, self._renewal = Rung.RENEW, now
        return [Renew()]

    def _await_renewal(self, now: float) -> list[Action]:
        if now - self._renewal >= RENEW_SECONDS:
            self.renewed(now)
        return []

    def _relieved(self, now: float) -> None:
        if self._rung is Rung.SHED:
            self._calm(now)
        elif self._cap is None:
            self._rung = Rung.REST

    def _raise(self, reading: Reading, now: float) -> list[Action]:
        """Under the budget for a while: let more streams run again, step by step.

        The last step may lead to eviction and not to rest. Then it evicts: an idle process tells
        nothing new and gives nothing back by itself, so the ladder would stay there.
        """
        if self._rung is not Rung.SHRINK or now - self._tried < RAISE_SECONDS:
            return []
        self._tried = now
        raised = 2 * self.capped(reading.limit)
        if raised < reading.limit:
            self._cap, self._at_floor = raised, inf
            return []
        self._cap, self._at_floor = None, inf
        if reading.held > RELIEF * reading.budget:
            return self._evict(reading, now)
        self._rung = Rung.REST
        return []

    def _calm(self, now: float) -> None:
        """Come down from shedding or renewing: the limit stays low and rises by and by."""
        self._try(Rung.SHRINK, now)
        self._helped, self._at_floor = True, now

    def _try(self, rung: Rung, now: float) -> None:
        self._rung, self._tried, self._helped = rung, now, False

    def _cooled(self, since: float, now: float) -> bool:
        return now - since >= COOL_DOWN_SECONDS
