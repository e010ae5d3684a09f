"""What engines told at a minute's edge, as readings of one flag, and why not to believe them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from engine.core.flags import flag_set_name
from gates.closing import Reading
from gates.exposition import (
    BAD_SQUARES,
    EPOCH,
    HELD,
    NEW_KEYS,
    RESTARTS,
    SHARE,
    STARTED,
    UNCLEAN,
    Scrape,
)
from gates.ledger import CONTROL, TREATMENT, Counts
from gates.text import percent
from gates.told import OUTCOMES, DoubtError, Told

#: Seconds before an edge at which an engine must have been seen: one scrape of 15 s, four to a
#: minute, and a second for its jitter. With one scrape missed the minute is another one.
STALE_SECONDS: Final = 16.0

#: Seconds: first tokens later than this are told apart for each flag set, for attribution. The
#: limit of `live_ttft_p95`, an edge of the engine's buckets.
SLOW_SECONDS: Final = 0.55

#: Shares come as per cent in one place and as numbers in another.
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a ledger is about: its flag, and what must serve and be counted."""

    flag: str
    epoch: int
    share: float
    edges: tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An edge as readings of one flag. With a doubt, counts are not to be believed; lives are."""

    readings: Mapping[str, Reading] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    held: bool = False

    @property
    def lives(self) -> Mapping[str, Reading]:
        """The readings that tell at least when their engine started."""
        return {engine: each for engine, each in self.readings.items() if each.started}


def seen(minute: int, scrapes: Iterable[Scrape], asked: Asked) -> Seen:
    """Read an edge.

    Args:
        minute: that begins there.
        scrapes: the last ones by then, of every target.
        asked: what of.
    """
    doubts: list[str] = []
    by_engine: dict[str, Told] = {}
    for scrape in sorted(scrapes, key=lambda each: each.target):
        told = Told(scrape)
        try:
            other = by_engine.setdefault(told.engine, told)
        except DoubtError as error:
            doubts.append(str(error))
            continue
        if other is not told:
            both = f"{other.scrape.target} and {scrape.target}"
            doubts.append(f"{told.engine} is told twice, as {both}")
    readings, held = {}, False
    for engine, told in by_engine.items():
        readings[engine], doubt = _reading(minute, told, asked)
        held |= not doubt and told.one(HELD, flag=asked.flag) == 1
        doubts += filter(None, [doubt])
    models = {told.build.get("model_sha256", "") for told in by_engine.values()}
    if len(models) > 1:
        doubts.append("engines differ in model")
    return Seen(
        readings=readings,
        doubts=tuple(doubts),
        held=held,
    )


def _reading(minute: int, told: Told, asked: Asked) -> tuple[Reading, str]:
    """An engine's reading, and why not to believe its counts."""
    life = Reading(
        engine=told.engine,
        commit=told.build.get("commit", ""),
        config_sha256=told.build.get("config_sha256", ""),
        counts=(),
    )
    try:
        crashes = told.total(RESTARTS) + told.total(UNCLEAN)
        life = replace(life, started=told.one(STARTED), crashes=crashes)
        _check(minute, told, asked)
        return _with_counts(life, told, asked.flag), ""
    except DoubtError as error:
        return life, str(error)


def _check(minute: int, told: Told, asked: Asked) -> None:
    age = minute * 60 - told.scrape.at
    if age > STALE_SECONDS:
        raise DoubtError(
            f"{told.engine} was seen last {age:.0f} s before the minute's edge; "
            f"allowed: {STALE_SECONDS:g}"
        )
    epoch = told.one(EPOCH, flag=asked.flag)
    if epoch != asked.epoch:
        raise DoubtError(f"{told.engine} is at epoch {epoch:g} of {asked.flag}, not {asked.epoch}")
    share = told.one(SHARE, flag=asked.flag) / 100
    if abs(share - asked.share) > _ROUNDING:
        given, wanted = percent(share), percent(asked.share)
        raise DoubtError(f"{told.engine} serves {given} of {asked.flag}, not {wanted}")
    told.one(HELD, flag=asked.flag)
    if told.edges != asked.edges:
        raise DoubtError(f"{told.engine} has other buckets than the ledger")


def _with_counts(life: Reading, told: Told, flag: str) -> Reading:
    slow = _beyond(told.edges[0], SLOW_SECONDS)
    cells = {}
    for flags, outcomes in told.requests.items():
        first = told.ttft[flags]
        bad = outcomes["failed"] + outcomes["cut"]
        cells[flag_set_name(flags)] = (outcomes["ok"] + bad, bad, sum(first), sum(first[slow:]))
    counts = tuple(_counts(told, flag, arm) for arm in (TREATMENT, CONTROL))
    return replace(life, counts=counts, cells=cells)


def _counts(told: Told, flag: str, arm: str) -> Counts:
    sets = [flags for flags in told.requests if (flag in flags) is (arm == TREATMENT)]
    outcomes: dict[str, Any] = {
        name: sum(told.requests[flags][name] for flags in sets) for name in OUTCOMES
    }
    return Counts(
        arm=arm,
        **outcomes,
        early=sum(told.early[flags] for flags in sets),
        ttft=_added(told.ttft[flags] for flags in sets),
        latency=_added(told.duration[flags] for flags in sets),
        busiest=told.busiest(flag, arm),
        new_keys=told.count(NEW_KEYS, flag, arm),
        bad_squares=told.count(BAD_SQUARES, flag, arm),
    )


def _added(histograms: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*histograms, strict=True)))


def _beyond(edges: tuple[float, ...], limit: float) -> int:
    """The first bucket that lies beyond a limit as a whole."""
    return sum(edge <= limit for edge in edges)
