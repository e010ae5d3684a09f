"""`phase5 status`: where the rollout stands, as tables, as JSON, or live on a terminal."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from engine.config import ConfigError, RolloutConfig
from engine.core.flags import FLAGS
from gates.briefing import briefs
from gates.engine_views import EngineView, FlagView
from gates.engines import EngineError, statuses
from gates.exits import DONE, ERROR, USAGE, refuse, say_json
from gates.fleet import config_in_use, known_engines, remember
from gates.history import Record
from gates.policy import policy_beside
from gates.scene import Scene
from gates.stages import Policy
from gates.status import (
    Soak,
    Status,
    Witness,
    document,
    guard_of,
    lease_left,
    problems_of,
    soak_of,
)
from gates.status_opening import opening
from gates.store import Store, StoreError, open_store
from gates.tables import console

#: Seconds for an engine to answer: long enough for a busy one, and nobody waits much for a dead.
_ANSWER_SECONDS: Final = 2.0

#: Seconds between two looks under `--watch`.
_EVERY: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What was asked for."""

    config: Path
    engines: tuple[str, ...] = ()  #: besides those of the configuration
    watch: bool = False


def show_status(question: Question, *, as_json: bool) -> int:
    """Show it; 0 also without engines, 1 when the store cannot be read, 2 for a configuration."""
    out = console()
    if question.watch and (as_json or not out.is_terminal):
        return refuse("--watch needs a terminal, and no --json", USAGE, as_json=as_json)
    try:
        policy = policy_beside(question.config)
        store = open_store(question.config, policy)
    except (ConfigError, StoreError) as error:
        return refuse(str(error), USAGE, as_json=as_json)
    if question.watch:
        return _watch(question, policy, store)
    status = look(question, policy, store)
    if as_json:
        say_json(document(status))
    else:
        out.print(tables(status, datetime.now(UTC)))
    return ERROR if status.generation is None else DONE


def look(question: Question, policy: Policy, store: Store) -> Status:
    """The rollout as it stands now. What cannot be read is a problem that it names."""
    now, guard = datetime.now(UTC), guard_of(question.config)
    try:
        snapshot = store.read()
    except StoreError as error:
        engines = _asked(question, ())
        unknown = Scene(
            now=now,
            standings=None,
            generation=None,
            engines=engines,
            last=None,
            guard=guard,
            trouble=str(error),
            config=_named(question),
        )
        return Status(
            where=store.where,
            engines=engines,
            problems=(str(error),),
            briefs=tuple(briefs(unknown)),
            guard=guard,
        )
    rollout = snapshot.config.rollout
    engines = _asked(question, rollout.engines)
    soaks = {f: soak_of(question.config, policy, f, s) for f, s in snapshot.flags.items()}
    last, damage = _history(store)
    scene = Scene(
        now=now,
        standings=snapshot.flags,
        generation=snapshot.generation,
        engines=engines,
        last=last,
        soak_left={flag: soak.left for flag, soak in soaks.items() if soak},
        approval=frozenset(rollout.approval),
        guard=guard,
        damage="; ".join(damage),
        config=_named(question),
    )
    return Status(
        where=snapshot.where,
        generation=snapshot.generation,
        flags=snapshot.flags,
        soaks={flag: soak for flag, soak in soaks.items() if soak},
        engines=engines,
        problems=(*problems_of(snapshot, engines), *damage, *_keep(question, rollout)),
        briefs=tuple(briefs(scene)),
        guard=guard,
        prometheus=_witness(rollout),
    )


def _asked(question: Question, engines: Sequence[str]) -> dict[str, EngineView | EngineError]:
    known = known_engines(question.config, [*question.engines, *engines])
    return asyncio.run(statuses(known.urls, seconds=_ANSWER_SECONDS, ca=known.ca))


def _named(question: Question) -> str:
    """What commands must name; empty for the configuration that they find by themselves."""
    return "" if question.config == config_in_use(None) else str(question.config)


def _witness(rollout: RolloutConfig) -> Witness | None:
    """Whether the Prometheus answers, asked once: somebody waits."""
    if rollout.prometheus is None:
        return None
    import httpx

    from gates.live import SourceError
    from gates.prometheus import Access, Prometheus

    once = httpx.HTTPTransport()
    try:
        server = Prometheus(rollout.prometheus, Access(timeout=_ANSWER_SECONDS), transport=once)
    except SourceError as error:
        return Witness(rollout.prometheus, str(error))
    try:
        server.now()
    except SourceError as error:
        return Witness(rollout.prometheus, str(error))
    finally:
        server.close()
    return Witness(rollout.prometheus, "")


def _history(store: Store) -> tuple[dict[str, Record] | None, tuple[str, ...]]:
    """The last change of each flag, and what is wrong with the history."""
    try:
        history = store.history()
    except StoreError as error:
        return None, (str(error),)
    last = {flag: history.last(flag) for flag in FLAGS}
    problems = tuple(f"history: {problem}" for problem in history.problems)
    return {flag: record for flag, record in last.items() if record}, problems


def _keep(question: Question, rollout: RolloutConfig) -> tuple[str, ...]:
    """Leave the engines to a rollback that comes when the configuration is broken."""
    try:
        remember(question.config, rollout.engines, rollout.ca)
    except OSError as error:
        return (f"the engines could not be kept for a rollback: {error}",)
    return ()


def tables(status: Status, now: datetime) -> RenderableType:
    """What matters first; then flags, engines and problems."""
    parts: list[RenderableType] = [*opening(status, now), ""]
    if status.flags:
        parts.append(_flags(status))
    parts.extend(Text(f"{f}: {'; '.join(notes)}") for f, notes in _all_notes(status).items())
    parts.append(_engines(status, now) if status.engines else "no engine is known")
    parts.extend(Text(f"! {problem}", style="yellow") for problem in status.problems)
    return Group(*parts)


def _watch(question: Question, policy: Policy, store: Store) -> int:
    def render() -> RenderableType:
        return tables(look(question, policy, store), datetime.now(UTC))

    try:
        with Live(render(), auto_refresh=False, screen=False) as live:
            while True:
                time.sleep(_EVERY)
                live.update(render(), refresh=True)
    except KeyboardInterrupt:  # how one leaves it
        return DONE


def _flags(status: Status) -> Table:
    table = _whole("flag", "stage", "share", "soak left", "epoch", "since")
    for flag, standing in status.flags.items():
        entered = standing.entered_at
        table.add_row(
            flag,
            standing.stage,
            f"{standing.percentage:g} %" if standing.enabled else "0 %",
            _soak(status.soaks.get(flag)),
            str(standing.epoch),
            entered.astimezone(UTC).strftime("%m-%d %H:%MZ") if entered else "",
        )
    return table


def _whole(*headers: str) -> Table:
    """A table whose names are whole on the narrowest terminal."""
    return Table(*(Column(header, no_wrap=True) for header in headers))


def _all_notes(status: Status) -> dict[str, list[str]]:
    notes = {flag: list(_notes(status, flag)) for flag in status.flags}
    return {flag: lines for flag, lines in notes.items() if lines}


def _notes(status: Status, flag: str) -> Iterator[str]:
    standing = status.flags[flag]
    soak = status.soaks.get(flag)
    if soak and soak.trouble:
        yield f"soak not known: {soak.trouble}"
    if standing.held:
        yield f"held: {standing.held}"
    if standing.approved:
        yield f"approved: {standing.approved}"
    if standing.suspect:
        yield f"suspect: {standing.suspect}"
    if standing.tombstones:
        yield f"rolled back: {', '.join(standing.tombstones)}"


def _soak(soak: Soak | None) -> str:
    if soak is None:
        return ""
    if soak.left is None:
        return f"? of {soak.demanded / 60:g} h"
    return f"{soak.left / 60:.1f} of {soak.demanded / 60:g} h"


def _engines(status: Status, now: datetime) -> Table:
    table = _whole("engine", "generation", "lease")
    table.add_column("serves", overflow="fold")
    for url, engine in status.engines.items():
        if isinstance(engine, EngineError):
            table.add_row(url, "", "", "no answer")
            continue
        served = [_served(flag, engine.flags[flag]) for flag in FLAGS]
        ready = [] if engine.ready else ["not ready"]
        told = ", ".join([*ready, *filter(None, served)]) or "nothing but control"
        table.add_row(url, str(engine.generation), _lease(engine, now), Text(told))
    return table


def _served(name: str, flag: FlagView) -> str:
    """What there is to say of a flag; nothing of one that is simply off."""
    marks = [f"brake {flag.brake} ({flag.cause})"] if flag.brake else []
    marks += ["unmanaged"] if flag.unmanaged else []
    told = [] if flag.off and not marks else [name, f"{flag.effective:g} %", *marks]
    return " ".join(told)


def _lease(engine: EngineView, now: datetime) -> str:
    if engine.lease.lapsed:
        return "lapsed, frozen" if engine.lease.frozen else "lapsed"
    left = lease_left(engine, now)
    return "not needed" if left is None else f"{left:.0f} s"
