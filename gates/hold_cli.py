"""`phase5 hold`, `resume` and `approve`: a person's word in the store. None moves a share."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from engine.config import ConfigError
from gates.acting import who
from gates.delivering import deliver, delivery_document, delivery_lines
from gates.engine_views import EngineView
from gates.engines import statuses
from gates.exits import DONE, ERROR, USAGE, refuse, say, say_json
from gates.fleet import Known, known_engines, remember
from gates.history import Record
from gates.policy import policy_beside
from gates.stages import Event
from gates.standing import Standing, candidate
from gates.store import Snapshot, StoreError, open_store
from gates.transitions import RefusedError, moved

#: Seconds in which engines say who they are and what brakes they have.
_IDENTITY_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A word as it was given.

    `candidate` is what a clearance lets in again; an approval takes the one that the engines run.
    """

    event: Event
    config: Path
    flags: tuple[str, ...]
    reason: str
    engines: tuple[str, ...] = ()  #: besides those of the configuration
    candidate: str = ""
    dry_run: bool = False


def give(order: Order, *, as_json: bool) -> int:
    """Write it into the store, for all flags named or for none; 0, or 1 when it was refused."""
    try:
        policy = policy_beside(order.config)
        store = open_store(order.config, policy)
        before = store.read()
        rollout = before.config.rollout
        remember(order.config, rollout.engines, rollout.ca)
        known = known_engines(order.config, [*order.engines, *rollout.engines])
        views = _views(order, known)
        after = moved(
            policy,
            before.flags,
            order.flags,
            order.event,
            now=datetime.now(UTC),
            candidate=order.candidate or _candidate(views),
            reason=order.reason,
            brakes={flag: _brakes(views, flag) for flag in order.flags},
            approval=frozenset(rollout.approval),
        )
        changes = bool(after) and not order.dry_run
        written = store.write(before, after, _record(order, views)) if changes else before
    except ConfigError as error:
        return refuse(str(error), USAGE, as_json=as_json)
    except (RefusedError, StoreError, OSError) as error:
        return refuse(f"nothing changed: {error}", ERROR, as_json=as_json)
    deliveries = deliver(known, written) if changes else {}
    document = _document(order, before, after, written, store.where)
    if as_json:
        say_json({**document, "engines": delivery_document(deliveries)})
        return DONE
    for line in (*_lines(order, after, written, store.where), *delivery_lines(deliveries)):
        say(line)
    return DONE


def _views(order: Order, known: Known) -> list[EngineView]:
    """Those that answer. A hold and its end need to know of none."""
    if order.event not in {Event.APPROVE, Event.CLEAR}:
        return []
    found = asyncio.run(statuses(known.urls, seconds=_IDENTITY_SECONDS, ca=known.ca))
    return [view for view in found.values() if isinstance(view, EngineView)]


def _candidate(views: list[EngineView]) -> str:
    """What the engines run; empty when they do not agree on it, or none answered."""
    found = {candidate(view.commit, view.config_sha256) for view in views}
    return found.pop() if len(found) == 1 else ""


def _brakes(views: list[EngineView], flag: str) -> list[str]:
    return sorted({view.flags[flag].brake for view in views if view.flags[flag].brake})


def _record(order: Order, views: list[EngineView]) -> Record:
    return Record(
        event=order.event,
        reason=order.reason,
        who=who(),
        at=datetime.now(UTC),
        candidate=order.candidate or _candidate(views),
    )


def _document(
    order: Order,
    before: Snapshot,
    after: Mapping[str, Standing],
    written: Snapshot,
    where: str,
) -> dict[str, Any]:
    return {
        "event": order.event.value,
        "flags": {flag: _state(after.get(flag, before.flags[flag])) for flag in order.flags},
        "changed": sorted(after),
        "dry_run": order.dry_run,
        "store": where,
        "generation": written.generation,
        "unrecorded": written.unrecorded or None,
    }


def _state(standing: Standing) -> dict[str, Any]:
    return {
        "stage": standing.stage,
        "held": standing.held or None,
        "approved": standing.approved or None,
        "suspect": standing.suspect or None,
        "tombstones": list(standing.tombstones),
    }


def _lines(order: Order, after: Mapping[str, Standing], written: Snapshot, where: str) -> list[str]:
    would = "would be " if order.dry_run else ""
    lines = [f"{flag}: {would}{_PAST[order.event]}" for flag in order.flags if flag in after]
    lines += [f"{flag}: nothing to change" for flag in order.flags if flag not in after]
    lines.append(f"store {where}: generation {written.generation}")
    return lines + ([f"HISTORY NOT WRITTEN: {written.unrecorded}"] if written.unrecorded else [])


_PAST: Final = {
    Event.HOLD: "held: no promotion until it is resumed; what it serves, it goes on serving",
    Event.RESUME: "resumed",
    Event.APPROVE: "approved for the next stage",
    Event.CLEAR: "cleared: the candidate may be promoted again",
}
