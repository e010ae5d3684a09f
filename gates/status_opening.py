"""How `phase5 status` opens: sources, then each flag, the most pressing first."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from gates.brief_rules import Level
from gates.briefing import Brief
from gates.status import Status

#: A word says it as well, for those who see no colours and for logs.
_STYLES: Final = {
    Level.ACT: "bold red",
    Level.LOOK: "yellow",
    Level.READY: "cyan",
    Level.QUIET: "green",
}


def opening(status: Status, now: datetime) -> Iterator[RenderableType]:
    """The lines above the tables."""
    yield from (Text(line, overflow="fold") for line in sources(status, now))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for brief in status.briefs:
        style = _STYLES[brief.level]
        head = Text(brief.headline, style=style if brief.level >= Level.LOOK else "")
        grid.add_row(Text(brief.level.name, style=style), Text(brief.flag, style="bold"), head)
        for label, text in _lines(brief):
            grid.add_row("", Text(label), Text(text))
    yield grid
    yield from (Text(line, overflow="fold") for line in _to_begin(status.briefs))


def sources(status: Status, now: datetime) -> Iterator[str]:
    """What was asked, and whether it answered."""
    generation = "unknown" if status.generation is None else str(status.generation)
    yield f"store {status.where}: generation {generation}"
    guard = status.guard
    if guard.beat is None:
        yield "guard: unknown, none ran here"
    else:
        ago = f"{max((now - guard.beat).total_seconds(), 0):.0f} s ago"
        yield f"guard: {'silent' if guard.silent(now) else 'alive'}, seen {ago}"
    if status.prometheus is not None:
        told = status.prometheus.trouble or "answers"
        yield f"prometheus {status.prometheus.url}: {told}"
    elif status.generation is not None:
        yield "prometheus: none is configured"
    else:
        yield "prometheus: unknown, it stands in the store"


def _lines(brief: Brief) -> Iterator[tuple[str, str]]:
    """The less there is to do, the fewer: on a small terminal those below would be cut off."""
    loud = brief.level > Level.QUIET
    if not loud and brief.rests:
        return
    yield "serves", brief.serves
    yield "acted", brief.acted
    if loud:
        yield "confirmed", ", ".join(brief.confirmed) or "by nobody"
        denials = (f"{url} ({why})" for url, why in brief.unconfirmed.items())
        yield "unconfirmed", ", ".join(denials) or "none"
        yield "stays on", ", ".join(brief.stays) or "nothing else"
    yield "next", brief.command
    if loud:
        yield "runbook", brief.runbook


def _to_begin(briefs: Sequence[Brief]) -> Iterator[str]:
    """How to bring in a flag that rests, once for all of them."""
    resting = [brief for brief in briefs if brief.rests and brief.level == Level.QUIET]
    if resting:
        yield f"to bring one in: {resting[0].command.replace(resting[0].flag, 'FLAG')}"
