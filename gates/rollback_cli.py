"""`phase5 rollback`: brakes the engines, then writes the store, then says what was reached.

It needs no verdict and no lock, no readable configuration, no history and no Git: what cannot be
written is named, and the engines are at 0 % all the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.core.flags import FLAGS
from gates.asking import EngineError
from gates.braking import PATIENCE, Braking, Confirmed
from gates.engine_views import EngineView
from gates.exits import DONE, ERROR, say, say_json
from gates.fleet import Known, known_engines
from gates.lifetime import process_seconds
from gates.plain_http import view

if TYPE_CHECKING:
    from gates.rollback_store import Written

#: Seconds that the engines have before the store is written as well: one that is down must not
#: keep the guard and everybody else from knowing.
_STORE_AFTER: Final = 1.0

#: Seconds to ask engines that have just answered who they are.
_IDENTITY_SECONDS: Final = 2.0

Outcomes = dict[str, Confirmed | EngineError]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A rollback as it was asked for."""

    config: Path
    flags: tuple[str, ...] = ()  #: none: every flag
    engines: tuple[str, ...] = ()  #: besides those of the configuration
    reason: str = ""
    cause: str = "manual"  #: or another of `gates.standing.Cause`
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What was reached."""

    order: Order
    known: Known
    outcomes: Outcomes
    written: "Written"

    @property
    def confirmed(self) -> bool:
        """Every engine said that it is at 0 %; where none is known, nobody did."""
        answers = self.outcomes.values()
        return bool(answers) and all(isinstance(answer, Confirmed) for answer in answers)

    @property
    def seconds(self) -> float | None:
        """Until the last engine had confirmed."""
        times = [a.seconds for a in self.outcomes.values() if isinstance(a, Confirmed)]
        return max(times) if self.confirmed else None


def rollback(order: Order, *, as_json: bool) -> int:
    """Roll flags back; 0 when every engine confirmed 0 %, else 1."""
    if order.dry_run:
        return _rehearse(order, as_json=as_json)
    done = _roll_back(order)
    if as_json:
        say_json(document(done))
    else:
        _show(done)
    return DONE if done.confirmed else ERROR


def _roll_back(order: Order) -> Done:
    known = known_engines(order.config, order.engines)
    braking = Braking(flags=order.flags, cause=order.cause, reason=order.reason, ca=known.ca)
    braking.tell(known.urls, PATIENCE)
    braking.wait(_STORE_AFTER)
    written = _write(order, braking)
    braking.wait(PATIENCE)
    if written.lifted:
        braking.tell(known.urls, PATIENCE)
        braking.wait(PATIENCE)
    return Done(order=order, known=known, outcomes=braking.outcomes, written=written)


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
        say_json({"dry_run": True, "reached": reached, "flags": _named(order), "engines": engines})
        return DONE if reached else ERROR
    for url, seen in views.items():
        if isinstance(seen, EngineError):
            say(f"{url}  would not be reached: {seen.reason}")
        else:
            shares = ", ".join(f"{f} {p:g} %" for f, p in _served(seen, order).items())
            say(f"{url}  would brake: {shares}")
    if not views:
        say(_NOBODY)
    return DONE if reached else ERROR


_NOBODY: Final = "no engine is known: name each with --engine URL, or in rollout.engines"


def _named(order: Order) -> list[str]:
    return list(order.flags or FLAGS)


def _served(seen: EngineView | EngineError, order: Order) -> dict[str, Any]:
    if isinstance(seen, EngineError):
        return {"error": seen.reason}
    return {flag: seen.flags[flag].effective for flag in _named(order)}


def document(done: Done) -> dict[str, Any]:
    """What was reached, as JSON has it."""
    written = done.written
    return {
        "confirmed": done.confirmed,
        "seconds": done.seconds,
        "flags": _named(done.order),
        "engines": {url: _outcome(outcome) for url, outcome in done.outcomes.items()},
        "store": {
            "where": written.where,
            "generation": written.generation,
            "flags": {f: {"from": a, "to": b} for f, (a, b) in written.flags.items()},
            "error": written.trouble or None,
            "unrecorded": written.unrecorded or None,
        },
        "doubt": done.known.doubt or None,
    }


def _outcome(outcome: Confirmed | EngineError) -> dict[str, Any]:
    if isinstance(outcome, EngineError):
        return {"confirmed": False, "seconds": None, "brakes": {}, "error": outcome.reason}
    return {
        "confirmed": True,
        "seconds": outcome.seconds,
        "brakes": dict(outcome.brakes),
        "error": None,
    }


def _show(done: Done) -> None:
    for url, outcome in done.outcomes.items():
        if isinstance(outcome, Confirmed):
            say(f"{url}  0 % after {outcome.seconds:.2f} s")
        else:
            say(f"{url}  NOT CONFIRMED: {outcome.reason}")
    if done.seconds is not None:
        say(f"every engine at 0 % after {done.seconds:.2f} s: {', '.join(_named(done.order))}")
    elif not done.outcomes:
        say(f"NOT CONFIRMED: {_NOBODY}")
    else:
        say(f"NOT CONFIRMED after {process_seconds():.0f} s by: {', '.join(_missing(done))}")
        say("run it again, or leave it to the guard: what confirmed stays at 0 %")
    for line in _store_lines(done.written):
        say(line)
    if done.known.doubt:
        say(f"{done.known.doubt}; engines from --engine and from what was known last")


def _missing(done: Done) -> list[str]:
    return [url for url, outcome in done.outcomes.items() if isinstance(outcome, EngineError)]


def _store_lines(written: "Written") -> list[str]:
    lines = [f"{flag}: {origin} -> {target}" for flag, (origin, target) in written.flags.items()]
    if written.generation is not None:
        changed = "" if lines else ", nothing to change"
        lines.append(f"store {written.where}: generation {written.generation}{changed}")
    if written.unrecorded:
        lines.append(f"HISTORY NOT WRITTEN: {written.unrecorded}")
    if written.trouble:
        lines.append(f"STORE NOT WRITTEN: {written.trouble}; brakes hold all the same")
    return lines
