"""What the guard's decisions are made on, and what they can be. Pure data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from gates.engine_views import EngineView
from gates.guarding.sight import Sight
from gates.stages import OFF
from gates.standing import Cause, Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """An engine at one poll: what it said, or why it said nothing."""

    url: str
    view: EngineView | None = None
    error: str = ""

    @property
    def name(self) -> str:
        """As people know it."""
        return f"{self.view.engine_id} at {self.url}" if self.view else self.url

    def serves_none(self, flag: str) -> bool:
        """Whether it confirms 0 %; what does not answer confirms nothing."""
        served = self.view.flags.get(flag) if self.view else None
        return served is not None and served.off


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A rollback that was decided, by whom ever, and is not everywhere yet."""

    id: str
    cause: Cause
    reason: str
    at: str  #: when it was decided, ISO 8601
    flags: Mapping[str, int]  #: and the epoch of each at the time
    candidates: Mapping[str, str] = field(default_factory=dict)  #: what each ran, where known
    brakes: tuple[str, ...] = ()  #: ids that engines gave
    verdict: str = ""  #: SHA-256 of the verdict that justifies it
    acknowledged: Mapping[str, int] = field(default_factory=dict)
    """The flags that the store has at 0 % on its account, and the epoch of each since."""

    @property
    def unacknowledged(self) -> tuple[str, ...]:
        """The flags that the store does not know about yet."""
        return tuple(flag for flag in self.flags if flag not in self.acknowledged)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreView:
    """The store as it was last read."""

    where: str
    generation: int
    flags: Mapping[str, Standing]


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that a decision depends on, beside the time."""

    engines: tuple[Polled, ...]
    store: StoreView | None = None  #: None while none could be read since the guard began
    trouble: tuple[str, ...] = ()  #: why the store, or its history, cannot be trusted now
    sights: Mapping[str, Sight] = field(default_factory=dict)
    pending: tuple[Pending, ...] = ()
    settled: frozenset[str] = frozenset()  #: brakes of rollbacks that the store knows about
    recent: frozenset[str] = frozenset()  #: brakes that whoever set them may be writing down now
    leases: Mapping[str, float] = field(default_factory=dict)  #: seconds by stage
    complaints: Mapping[str, str] = field(default_factory=dict)  #: of the judge, by their key

    @property
    def live(self) -> dict[str, Standing]:
        """The flags at a live stage that nobody is rolling back: those that need evidence."""
        if self.store is None:
            return {}
        leaving = {flag for each in self.pending for flag in each.flags}
        return {
            flag: standing
            for flag, standing in self.store.flags.items()
            if standing.managed and standing.stage != OFF and flag not in leaving
        }

    @property
    def views(self) -> Iterator[tuple[Polled, EngineView]]:
        """The engines that answered."""
        return ((each, each.view) for each in self.engines if each.view is not None)

    def blind(self, engine: str, now: datetime) -> Iterator[tuple[str, str]]:
        """The flags for which an engine's lease may not be renewed, each with the reason."""
        for flag, standing in self.live.items():
            sight = self.sights.get(flag)
            if sight is None or sight.epoch != standing.epoch:
                yield flag, f"{flag}: nothing is known of epoch {standing.epoch}"
            elif why := sight.blind(engine, now):
                yield flag, why


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeOver:
    """Make a rollback of brakes that engines report and the store does not know."""

    flags: tuple[str, ...]
    cause: Cause
    brakes: tuple[str, ...]
    engines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """Remember brakes that the store explains: it has their flags at 0 %."""

    brakes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Brake:
    """Tell an engine that does not serve 0 % yet."""

    pending: str
    url: str
    flags: tuple[str, ...]
    cause: Cause
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledge:
    """The store has these flags at 0 % already, whoever wrote it."""

    pending: str
    epochs: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Write a rollback into the store."""

    pending: str
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """A rollback is everywhere: every engine serves 0 %, and the store knows."""

    pending: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """Bring an engine to the state of the store."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Renew:
    """Extend an engine's lease."""

    url: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """Something that people must know, once for as long as it lasts."""

    key: str
    text: str
    ended: str = "over"  #: how it is told that it no longer lasts


Action: TypeAlias = (
    TakeOver | Settle | Brake | Acknowledge | Record | Close | Deliver | Renew | Tell
)
