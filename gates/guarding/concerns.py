"""What people must know of a situation, each for as long as it lasts. Pure."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from gates.engine_views import EngineView, FlagView
from gates.guarding.situation import Action, Pending, Polled, Situation, Tell
from gates.stages import OFF
from gates.standing import Standing


def concerns(situation: Situation, now: datetime) -> Iterator[Tell]:
    """Everything that somebody has to look at."""
    for text in situation.trouble:
        yield _page("store", text)
    for each in situation.pending:
        yield _of_rollback(each, situation)
    for polled in situation.engines:
        if polled.view is None:
            text = f"engine {polled.url} does not answer: {polled.error}"
            yield _page(f"engine:{polled.url}", text)
        else:
            yield from _of_engine(polled, polled.view, situation, now)
    yield from _of_hand(situation)
    for key, text in situation.complaints.items():
        yield _page(f"judge:{key}", text)


def holds(actions: Iterable[Action]) -> tuple[str, ...]:
    """The reasons for which somebody must look: what makes a single poll a hold."""
    return tuple(action.text for action in actions if isinstance(action, Tell))


def _page(key: str, text: str) -> Tell:
    return Tell(key=key, text=text)


def _of_rollback(each: Pending, situation: Situation) -> Tell:
    done: list[str] = []
    waits: list[str] = []
    for polled in situation.engines:
        there = all(polled.serves_none(flag) for flag in each.flags)
        (done if there else waits).append(polled.name)
    stays = [flag for flag in situation.live if flag not in each.flags]
    parts = [
        f"rollback of {', '.join(each.flags)} ({each.cause.value}) at {each.at}: {each.reason}",
        f"confirmed by {len(done)} of {len(situation.engines)} engines",
        f"not confirmed by {', '.join(waits)}" if waits else "",
        f"the store does not know of {', '.join(each.unacknowledged)}"
        if each.unacknowledged
        else "",
        f"{', '.join(stays)} stays on" if stays else "",
    ]
    text = "; ".join(filter(None, parts))
    return Tell(key=f"rollback:{each.id}", text=text, ended="everywhere now")


def _of_engine(
    polled: Polled, view: EngineView, situation: Situation, now: datetime
) -> Iterator[Tell]:
    for flag, why in situation.blind(view.engine_id, now):
        text = f"the lease of {polled.name} is not renewed: {why}"
        yield _page(f"blind:{polled.url}:{flag}", text)
    if view.lease.frozen:
        text = f"{polled.name} is frozen: its lease lapsed at full; it takes no raise"
        yield _page(f"frozen:{polled.url}", text)
    store = situation.store
    if store is None:
        return
    if view.generation > store.generation:
        text = (
            f"{polled.name} has generation {view.generation}, {store.where} only "
            f"{store.generation}: the store went back, or the engine has another one"
        )
        yield _page(f"ahead:{polled.url}", text)
    for flag, served in view.flags.items():
        if flag in store.flags:
            yield from _of_flag(polled, flag, served, store.flags[flag], situation)


def _of_flag(
    polled: Polled, flag: str, served: FlagView, standing: Standing, situation: Situation
) -> Iterator[Tell]:
    if served.unmanaged:
        text = f"{polled.name} serves {flag} at {served.effective:g} %, raised by hand"
        yield _page(f"unmanaged:{polled.url}:{flag}", text)
    settled = served.brake in situation.settled and served.brake not in standing.lifted
    if settled and standing.stage != OFF:
        text = (
            f"{polled.name} keeps {flag} at 0 % by brake {served.brake} of an earlier rollback, "
            f"which the store has not lifted; roll {flag} back and promote it again"
        )
        yield _page(f"kept:{polled.url}:{flag}", text)


def _of_hand(situation: Situation) -> Iterator[Tell]:
    for flag, standing in situation.store.flags.items() if situation.store else ():
        if not standing.managed:
            text = (
                f"{flag} stands at {standing.percentage:g} % in the store by somebody's hand: "
                "nobody judges it, and it cannot be promoted"
            )
            yield _page(f"unmanaged:{flag}", text)
