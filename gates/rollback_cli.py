"""`phase5 rollback`: brakes the engines, then writes the store, then says what was reached.

It needs no verdict and no lock, no readable configuration, no history and no Git: what cannot be
written is named, and the engines are at 0 % all the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.core.flags import FLAGS
from gates.asking import EngineError
from gates.braking import PATIENCE, Braking
from gates.engine_views import EngineView
from gates.exits import DONE, ERROR, say, say_json
from gates.fleet import Known, known_engines
from gates.plain_http import view
from gates.rollback_report import (
    NOBODY,
    Done,
    document,
    engine_lines,
    last_confirmed,
    store_lines,
)

if TYPE_CHECKING:
    from gates.rollback_store import Written

#: Seconds that the engines have before the store is written as well: one that is down must not
#: keep the guard and everybody else from knowing.
_STORE_AFTER: Final = 1.0

#: Seconds to ask engines that have just answered who they are.
_IDENTITY_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A rollback as it was asked for."""

    config: Path
    flags: tuple[str, ...] = ()  #: none: every flag
    engines: tuple[str, ...] = ()  #: besides those of the configuration
    reason: str = ""
    cause: str = "manual"  #: or another of `gates.standing.Cause`
    dry_run: bool = False

    @property
    def named(self) -> tuple[str, ...]:
        """The flags that it is about."""
        return self.flags or FLAGS


def rollback(order: Order, *, as_json: bool) -> int:
    """Roll flags back; 0 when every engine confirmed 0 %, else 1."""
    if order.dry_run:
        return _rehearse(order, as_json=as_json)
    done = _roll_back(order, as_json=as_json)
    if as_json:
        say_json(document(done))
    else:
        for line in store_lines(done):
            say(line)
    return DONE if done.confirmed else ERROR


def _roll_back(order: Order, *, as_json: bool) -> Done:
    def announce() -> None:
        """As soon as it is known: the store may be slow."""
        for line in () if as_json else engine_lines(braking.outcomes, order.named):
            say(line)

    known = known_engines(order.config, order.engines)
    braking = Braking(flags=order.flags, cause=order.cause, reason=order.reason, ca=known.ca)
    braking.tell(known.urls, PATIENCE)
    braking.wait(_STORE_AFTER)
    early = last_confirmed(braking.outcomes) is not None
    if early:
        announce()
    written = _write(order, braking)
    braking.wait(PATIENCE)
    left = _deliver(known, braking, written)
    if written.lifted:
        braking.tell(known.urls, PATIENCE)
        braking.wait(PATIENCE)
    if written.lifted or not early:
        announce()
    return Done(
        flags=order.named,
        outcomes=braking.outcomes,
        written=written,
        left=left,
        doubt=known.doubt,
    )


def _write(order: Order, braking: Braking) -> "Written":
    # It loads most of the package, which the engines need not wait for.
    from gates.acting import who
    from gates.rollback_store import Change, write_rollback
    from gates.standing import Cause

    ids: dict[str, list[str]] = {}
    for confirmed in braking.confirmed.values():
        for flag, brake in confirmed.brakes.items():
            ids.setdefault(flag, []).append(brake)
    change = Change(
        flags=order.flags,
        cause=Cause(order.cause),
        reason=order.reason,
        who=who(),
        candidate=_candidate(braking),
        brakes=ids,
    )
    return write_rollback(order.config, change)


def _deliver(known: Known, braking: Braking, written: "Written") -> dict[str, str]:
    """Bring the store's state, beside which what a promotion in flight brings later is older."""
    if written.after is None:
        return {}
    from gates.delivering import deliver, delivery_document

    reached = replace(known, urls=tuple(braking.confirmed))
    answers = delivery_document(deliver(reached, written.after))
    return {url: answer["reason"] for url, answer in answers.items() if not answer["taken"]}


def _candidate(braking: Braking) -> str:
    """What the engines ran; empty when they do not agree on it."""
    from gates.standing import candidate

    views = _views(tuple(braking.confirmed), braking.ca).values()
    found = {
        candidate(seen.commit, seen.config_sha256) if isinstance(seen, EngineView) else ""
        for seen in views
    }
    return found.pop() if len(found) == 1 else ""


def _views(urls: Iterable[str], ca: Path | None) -> dict[str, EngineView | EngineError]:
    """Who engines are: one attempt each, all at once."""
    from concurrent.futures import ThreadPoolExecutor

    def look(url: str) -> EngineView | EngineError:
        try:
            return view(url, _IDENTITY_SECONDS, ca)
        except EngineError as error:
            return error

    urls = tuple(urls)
    with ThreadPoolExecutor(max_workers=len(urls) or 1) as pool:
        return dict(zip(urls, pool.map(look, urls), strict=True))


def _rehearse(order: Order, *, as_json: bool) -> int:
    """Who would be told, and who would not hear it."""
    known = known_engines(order.config, order.engines)
    views = _views(known.urls, known.ca)
    reached = bool(views) and all(isinstance(seen, EngineView) for seen in views.values())
    if as_json:
        engines = {url: _served(seen, order) for url, seen in views.items()}
        say_json(
            {"dry_run": True, "reached": reached, "flags": list(order.named), "engines": engines}
        )
        return DONE if reached else ERROR
    for url, seen in views.items():
        if isinstance(seen, EngineError):
            say(f"{url}  would not be reached: {seen.reason}")
        else:
            shares = ", ".join(f"{f} {p:g} %" for f, p in _served(seen, order).items())
            say(f"{url}  would brake: {shares}")
    if not views:
        say(NOBODY)
    return DONE if reached else ERROR


def _served(seen: EngineView | EngineError, order: Order) -> dict[str, Any]:
    if isinstance(seen, EngineError):
        return {"error": seen.reason}
    return {flag: seen.flags[flag].effective for flag in order.named}
