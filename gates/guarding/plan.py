"""What the guard does next: from the store, the engines, the evidence and the time. Pure.

Every poll sees the whole situation anew and asks for what is missing in it, so that a step that
was lost (a killed guard, an engine that was down, a store out of reach) is asked for again. The
order of the actions is the order in which they are done: brakes before anything else, then the
store, and leases last.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias

from gates.guarding.sight import Sight
from gates.moves import Cause, Standing
from gates.stages import OFF


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagView:
    """One flag as an engine serves it."""

    percentage: float
    effective: float
    epoch: int = 0
    brake: str = ""
    cause: str = ""
    unmanaged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineView:
    """An engine at one poll; one that did not answer has only an address and the error."""

    url: str
    error: str = ""
    engine: str = ""  #: the id that it drew once
    generation: int = 0
    flags: Mapping[str, FlagView] = field(default_factory=dict)
    lapsed: bool = False
    frozen: bool = False

    @property
    def name(self) -> str:
        """As people know it."""
        return f"{self.engine} at {self.url}" if self.engine else self.url


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A rollback that was decided, by whom ever, and is not everywhere yet."""

    id: str
    cause: Cause
    reason: str
    at: str  #: when it was decided, ISO 8601
    flags: Mapping[str, int]  #: and the epoch of each at the time
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

    engines: tuple[EngineView, ...]
    store: StoreView | None = None  #: None while none could be read since the guard began
    trouble: tuple[str, ...] = ()  #: why the store, or its history, cannot be trusted now
    sights: Mapping[str, Sight] = field(default_factory=dict)
    pending: tuple[Pending, ...] = ()
    settled: frozenset[str] = frozenset()  #: brakes of rollbacks that the store knows about
    leases: Mapping[str, float] = field(default_factory=dict)  #: seconds by stage
    complaints: Mapping[str, str] = field(default_factory=dict)  #: of the judge, by their key


class Severity(StrEnum):
    """How soon somebody must look."""

    PAGE = "page"
    INFO = "info"


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
    severity: Severity
    text: str


Action: TypeAlias = TakeOver | Settle | Brake | Acknowledge | Record | Close | Deliver | Renew | Tell

#: Where a stage has no lease of its own: `full` takes that of `mid`, as the engines' own limit.
_AS_LONG_AS: Final = {"full": "mid"}


def plan(situation: Situation, now: datetime) -> tuple[Action, ...]:
    """What is to be done now; nothing where all is as it should be."""
    return (
        *_taken_over(situation),
        *_settled(situation),
        *_braked(situation),
        *_stored(situation),
        *_delivered(situation),
        *_renewed(situation, now),
        *_told(situation, now),
    )


def _taken_over(situation: Situation) -> Iterator[TakeOver]:
    """Brakes that no rollback of ours explains, and that the store neither knows nor lifted."""
    if situation.store is None:
        return
    known = situation.settled | {b for each in situation.pending for b in each.brakes}
    found: dict[Cause, dict[str, tuple[set[str], set[str]]]] = {}
    for view in situation.engines:
        for flag, served in view.flags.items():
            standing = situation.store.flags[flag]
            fresh = served.brake and served.brake not in known
            if fresh and standing.stage != OFF and served.brake not in standing.lifted:
                brakes, names = found.setdefault(_cause(served), {}).setdefault(flag, (set(), set()))
                brakes.add(served.brake)
                names.add(view.name)
    for cause, flags in found.items():
        yield TakeOver(
            flags=tuple(flags),
            cause=cause,
            brakes=tuple(sorted({b for brakes, _ in flags.values() for b in brakes})),
            engines=tuple(sorted({n for _, names in flags.values() for n in names})),
        )


def _settled(situation: Situation) -> Iterator[Settle]:
    """An engine that is ahead of the store as we know it may brake what we have not read yet."""
    store = situation.store
    if store is None:
        return
    brakes = {
        served.brake
        for view in situation.engines
        if view.generation <= store.generation
        for flag, served in view.flags.items()
        if served.brake and store.flags[flag].stage == OFF
    } - situation.settled
    if brakes:
        yield Settle(brakes=tuple(sorted(brakes)))


def _cause(served: FlagView) -> Cause:
    """An engine of another version may name a cause that we do not know; somebody braked it."""
    return Cause(served.cause) if served.cause in tuple(Cause) else Cause.MANUAL


def _braked(situation: Situation) -> Iterator[Brake]:
    """An engine that did not answer is tried all the same: its status may be slow, not its brake."""
    for each in situation.pending:
        for view in situation.engines:
            flags = tuple(flag for flag in each.flags if not _serves_none(view, flag))
            if flags:
                yield Brake(url=view.url, flags=flags, cause=each.cause, reason=each.reason)


def _stored(situation: Situation) -> Iterator[Acknowledge | Record | Close]:
    for each in situation.pending:
        if situation.store is not None and each.unacknowledged:
            yield from _written(each, situation.store)
        waits = any(not _serves_none(v, flag) for v in situation.engines for flag in each.flags)
        if not each.unacknowledged and not waits:
            yield Close(pending=each.id)


def _written(each: Pending, store: StoreView) -> Iterator[Acknowledge | Record]:
    """What stands at `off` was rolled back by somebody; whatever else stands is rolled back now.

    A promotion that was quicker than we were does not count: what was convicted is the candidate,
    wherever it stands.
    """
    done = {f: store.flags[f].epoch for f in each.unacknowledged if store.flags[f].stage == OFF}
    if done:
        yield Acknowledge(pending=each.id, epochs=done)
    left = tuple(flag for flag in each.unacknowledged if flag not in done)
    if left:
        yield Record(pending=each.id, flags=left)


def _delivered(situation: Situation) -> Iterator[Deliver]:
    """Everything that lowers goes out; a raise waits for the store to be whole and up to date."""
    store = situation.store
    if store is None:
        return
    waiting = bool(situation.trouble) or any(p.unacknowledged for p in situation.pending)
    waiting = waiting or any(True for _ in _taken_over(situation))
    for view in situation.engines:
        if view.error or view.generation >= store.generation:
            continue
        raised = any(
            standing.percentage > view.flags[flag].percentage
            for flag, standing in store.flags.items()
            if flag in view.flags and standing.enabled
        )
        if not (raised and waiting):
            yield Deliver(url=view.url)


def _renewed(situation: Situation, now: datetime) -> Iterator[Renew]:
    seconds = _lease(situation)
    if seconds is None:
        return
    for view in situation.engines:
        if not view.error and not any(_blind(situation, view, now)):
            yield Renew(url=view.url, seconds=seconds)


def _lease(situation: Situation) -> float | None:
    """The shortest lease of the stages at which a flag stands; none where all are off."""
    given = [
        situation.leases[stage]
        for stage in (_AS_LONG_AS.get(s.stage, s.stage) for s in _live(situation).values())
        if stage in situation.leases
    ]
    return min(given, default=None)


def _live(situation: Situation) -> dict[str, Standing]:
    """The flags that serve somebody by the store, and are not being rolled back."""
    if situation.store is None:
        return {}
    leaving = {flag for each in situation.pending for flag in each.flags}
    return {
        flag: standing
        for flag, standing in situation.store.flags.items()
        if standing.stage != OFF and flag not in leaving
    }


def _blind(situation: Situation, view: EngineView, now: datetime) -> Iterator[str]:
    for flag, standing in _live(situation).items():
        sight = situation.sights.get(flag)
        if sight is None or sight.epoch != standing.epoch:
            yield f"{flag}: nothing is known of epoch {standing.epoch}"
        elif why := sight.blind(view.engine, now):
            yield why


def _told(situation: Situation, now: datetime) -> Iterator[Tell]:
    page = Severity.PAGE
    for text in situation.trouble:
        yield Tell(key=f"store:{text}", severity=page, text=text)
    for each in situation.pending:
        yield _of_rollback(each, situation)
    for view in situation.engines:
        if view.error:
            text = f"engine {view.url} does not answer: {view.error}"
            yield Tell(key=f"engine:{view.url}", severity=page, text=text)
            continue
        for why in _blind(situation, view, now):
            text = f"lease of {view.name} is not renewed: {why}"
            yield Tell(key=f"blind:{view.url}:{why.partition(':')[0]}", severity=page, text=text)
        yield from _of_engine(view, situation)
    for key, text in situation.complaints.items():
        yield Tell(key=f"judge:{key}", severity=page, text=text)


def _of_rollback(each: Pending, situation: Situation) -> Tell:
    waits = sorted(
        view.name
        for view in situation.engines
        if any(not _serves_none(view, flag) for flag in each.flags)
    )
    left = [*(f"engines that do not confirm: {', '.join(waits)}" for _ in waits[:1])]
    if each.unacknowledged:
        left.append("the store does not know yet")
    text = f"rollback of {', '.join(each.flags)} ({each.cause.value}): {each.reason}"
    return Tell(
        key=f"rollback:{each.id}",
        severity=Severity.PAGE,
        text="; ".join([text, *left]),
    )


def _of_engine(view: EngineView, situation: Situation) -> Iterator[Tell]:
    page, store = Severity.PAGE, situation.store
    if view.frozen:
        text = f"{view.name} is frozen: its lease lapsed at full; it takes no raise"
        yield Tell(key=f"frozen:{view.url}", severity=page, text=text)
    if store is None:
        return
    if view.generation > store.generation:
        text = (
            f"{view.name} has generation {view.generation}, the store {store.where} only "
            f"{store.generation}: it went back, or the engine has another store"
        )
        yield Tell(key=f"ahead:{view.url}", severity=page, text=text)
    for flag, served in view.flags.items():
        yield from _of_flag(view, flag, served, store.flags[flag], situation)


def _of_flag(
    view: EngineView, flag: str, served: FlagView, standing: Standing, situation: Situation
) -> Iterator[Tell]:
    page = Severity.PAGE
    if served.unmanaged:
        text = f"{view.name} serves {flag} at {served.effective:g} %, raised by hand"
        yield Tell(key=f"unmanaged:{view.url}:{flag}", severity=page, text=text)
    stale = served.brake in situation.settled and served.brake not in standing.lifted
    if stale and standing.stage != OFF:
        text = (
            f"{view.name} keeps {flag} at 0 % by brake {served.brake} of an earlier rollback, "
            f"which the store did not lift; roll {flag} back and promote it again"
        )
        yield Tell(key=f"kept:{view.url}:{flag}", severity=page, text=text)


def _serves_none(view: EngineView, flag: str) -> bool:
    """Whether an engine confirms 0 %; one that does not answer confirms nothing."""
    served = view.flags.get(flag)
    return not view.error and served is not None and served.effective == 0


def holds(actions: Iterable[Action]) -> tuple[str, ...]:
    """The reasons for which somebody must look: what makes a single poll a hold."""
    return tuple(a.text for a in actions if isinstance(a, Tell) and a.severity is Severity.PAGE)
