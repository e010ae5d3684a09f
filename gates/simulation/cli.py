"""`phase5 simulate`: prints the table, returns a status."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from engine.config import ConfigError
from gates.cli import DONE, ERROR, USAGE
from gates.policy import policy_beside
from gates.simulation.plot import svg
from gates.simulation.scenarios import Counts
from gates.simulation.study import Measured, Standing, study

#: Where no bar can move, a line after each tenth.
_LINES: Final = 10

#: Columns that the widest line of the table needs.
_WIDE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for."""

    fast: bool = False
    seed: int = 0
    only: str = ""
    jobs: int = 2
    plot: Path | None = None
    config: Path | None = None


def simulate(options: Options, *, as_json: bool = False) -> int:
    """Measure how often the judge errs; 0 when no target is missed, else 1."""
    console = Console(stderr=True)
    try:
        policy = policy_beside(options.config)
        with _ticking(console) as tick:
            table = study(
                policy,
                seed=options.seed,
                fast=options.fast,
                only=options.only,
                jobs=options.jobs,
                tick=tick,
            )
    except (ConfigError, ValueError) as error:
        sys.stderr.write(f"phase5 simulate: {error}\n")
        return USAGE
    if options.plot:
        options.plot.write_text(svg(table), encoding="utf-8")
    if as_json:
        sys.stdout.write(json.dumps(_document(table, options)) + "\n")
    else:
        out = Console()
        # Off a terminal nothing is wrapped or cut.
        (out if out.is_terminal else Console(width=_WIDE)).print(_table(table))
    return ERROR if any(m.standing is Standing.MISSED for m in table) else DONE


def _table(table: Sequence[Measured]) -> Table:
    shown = Table(
        "scenario", "what", "measured", "95 % bounds", "90th of 100", "target", "", "runs"
    )
    for m in table:
        sign = ">=" if m.scenario.at_least else "<="
        shown.add_row(
            m.scenario.name,
            m.scenario.counts.value,
            _number(m, m.value),
            f"{_number(m, m.low)} to {_number(m, m.high)}",
            "" if m.p90 is None else _number(m, m.p90),
            f"{sign} {_number(m, m.scenario.target)}",
            m.standing.value,
            str(m.runs),
        )
    return shown


def _number(m: Measured, value: float | None) -> str:
    if value is None or not isfinite(value):
        return "never"
    if m.scenario.counts in (Counts.REQUESTS, Counts.MINUTES):
        return f"{value:,.0f}".replace(",", " ")
    return f"{100 * value:.3g} %"


def _document(table: Sequence[Measured], options: Options) -> dict[str, Any]:
    return {
        "seed": options.seed,
        "fast": options.fast,
        "scenarios": [
            {
                "name": m.scenario.name,
                "counts": m.scenario.counts.value,
                "value": m.value,
                "low": _finite(m.low),
                "high": _finite(m.high),
                "p90": _finite(m.p90),
                "target": m.scenario.target,
                "at_least": m.scenario.at_least,
                "standing": m.standing.value,
                "runs": m.runs,
            }
            for m in table
        ],
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


@contextmanager
def _ticking(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; elsewhere a line now and then."""
    if not console.is_terminal:
        yield _line(console)
        return
    columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("runs")
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _line(console: Console) -> Callable[[int, int], None]:
    said = 0

    def tick(done: int, total: int) -> None:
        nonlocal said
        if _LINES * done // total > said:
            said = _LINES * done // total
            console.print(f"phase5 simulate: {done} of {total} runs")

    return tick
