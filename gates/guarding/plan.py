"""What the guard does next: from the store, the engines, the evidence and the time. Pure.

Every poll sees the whole situation anew and asks for what is missing in it, so that a step that
was lost (a killed guard, an engine that was down, a store out of reach) is asked for again. The
order of the actions is the order in which they are done: brakes before anything else, then the
store, and leases last.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from gates.engine_views import EngineView, FlagView
from gates.guarding.concerns import concerns
from gates.guarding.situation import (
    Acknowledge,
    Action,
    Brake,
    Close,
    Deliver,
    Pending,
    Record,
    Renew,
    Settle,
    Situation,
    StoreView,
    TakeOver,
)
from gates.stages import FULL, OFF
from gates.standing import Cause

#: Where a stage has no lease of its own: at `full`, where nothing is braked, that of `mid`.
_AS_LONG_AS: Final = {FULL: "mid"}


def plan(situation: Situation, now: datetime) -> tuple[Action, ...]:
    """What is to be done now, in order; nothing where all is as it should be."""
    return (
        *_taken_over(situation),
        *_settled(situation),
        *_braked(situation),
        *_stored(situation),
        *_delivered(situation),
        *_renewed(situation, now),
        *concerns(situation, now),
    )


def _taken_over(situation: Situation) -> Iterator[TakeOver]:
    """What nobody else writes down."""
    return _unknown(situation, situation.recent)


def _unknown(situation: Situation, known: frozenset[str] = frozenset()) -> Iterator[TakeOver]:
    """Brakes that no rollback of ours explains, and that the store neither knows nor lifted."""
    known |= situation.settled | {b for each in situation.pending for b in each.brakes}
    found: dict[Cause, list[tuple[str, str, str]]] = {}
    for polled, view in situation.views:
        for flag, served in view.flags.items():
            if _fresh(situation, flag, served) and served.brake not in known:
                found.setdefault(_cause(served), []).append((flag, served.brake, polled.name))
    for cause, brakes in found.items():
        flags, ids, names = (tuple(dict.fromkeys(column)) for column in zip(*brakes, strict=True))
        yield TakeOver(flags=flags, cause=cause, brakes=ids, engines=names)


def _fresh(situation: Situation, flag: str, served: FlagView) -> bool:
    standing = situation.store.flags.get(flag) if situation.store else None
    serves = standing is not None and standing.stage != OFF
    return (
        bool(served.brake)
        and standing is not None
        and serves
        and (served.brake not in standing.lifted)
    )


def _cause(served: FlagView) -> Cause:
    """An engine of another version may name a cause that we do not know; somebody braked it."""
    return Cause(served.cause) if served.cause in tuple(Cause) else Cause.MANUAL


def _settled(situation: Situation) -> Iterator[Settle]:
    """An engine that is ahead of the store as we know it may brake what we have not read yet."""
    store = situation.store
    if store is None:
        return
    brakes = {
        served.brake
        for _, view in situation.views
        if view.generation <= store.generation
        for flag, served in view.flags.items()
        if served.brake and flag in store.flags and store.flags[flag].stage == OFF
    } - situation.settled
    if brakes:
        yield Settle(brakes=tuple(sorted(brakes)))


def _braked(situation: Situation) -> Iterator[Brake]:
    """An engine that did not answer is tried all the same: slow to tell may be quick to brake."""
    for each in situation.pending:
        left = _left(each, situation.store)
        for polled in situation.engines:
            flags = tuple(flag for flag in left if not polled.serves_none(flag))
            if flags:
                yield Brake(
                    pending=each.id,
                    url=polled.url,
                    flags=flags,
                    cause=each.cause,
                    reason=each.reason,
                )


def _stored(situation: Situation) -> Iterator[Acknowledge | Record | Close]:
    for each in situation.pending:
        if situation.store is not None and each.unacknowledged:
            yield from _written(each, situation.store)
        left = _left(each, situation.store)
        waits = any(not p.serves_none(flag) for p in situation.engines for flag in left)
        if not each.unacknowledged and not waits:
            yield Close(pending=each.id)


def _left(each: Pending, store: StoreView | None) -> tuple[str, ...]:
    """The flags that must still come to 0 %: not those promoted again since the store knew."""
    if store is None:
        return tuple(each.flags)
    again = {
        flag
        for flag, epoch in each.acknowledged.items()
        if store.flags[flag].epoch > epoch and store.flags[flag].stage != OFF
    }
    return tuple(flag for flag in each.flags if flag not in again)


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
    """What lowers goes out at once; a raise waits for a store that is whole and up to date."""
    store = situation.store
    if store is None:
        return
    waits = (
        bool(situation.trouble)
        or any(each.unacknowledged for each in situation.pending)
        or any(_unknown(situation))
    )
    for polled, view in situation.views:
        behind = view.generation < store.generation
        if behind and not (waits and _raised(view, store)):
            yield Deliver(url=polled.url)


def _raised(view: EngineView, store: StoreView) -> bool:
    """Whether an engine would serve more of any flag than it does."""
    return any(
        standing.enabled and standing.percentage > view.flags[flag].percentage
        for flag, standing in store.flags.items()
        if flag in view.flags
    )


def _renewed(situation: Situation, now: datetime) -> Iterator[Renew]:
    given = (_AS_LONG_AS.get(s.stage, s.stage) for s in situation.live.values())
    seconds = min((situation.leases[s] for s in given if s in situation.leases), default=None)
    if seconds is None:
        return
    for polled, view in situation.views:
        if not any(situation.blind(view.engine_id, now)):
            yield Renew(url=polled.url, seconds=seconds)
