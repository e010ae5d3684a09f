"""`phase5 bench`: plain functions that print and return a status."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from engine.runtime.interface import RuntimeStartError
from engine.runtime.models import ModelError, ModelFiles, resolve_model
from gates.exits import DONE, ERROR, USAGE, refuse, warn
from pytest_phase5.bench import tables
from pytest_phase5.bench.arms import ARMS
from pytest_phase5.bench.cells import FAST_BYTES, WORKLOADS, cells
from pytest_phase5.bench.document import document, sound
from pytest_phase5.bench.limit import Share
from pytest_phase5.bench.picture import picture
from pytest_phase5.bench.running import Order, Outcome, carry_out
from pytest_phase5.engines import EngineError
from pytest_phase5.load.tables import table

FOLDER: Final = Path("phase5-bench")
RESULT_FILE: Final = "bench.json"
PICTURE_FILE: Final = "bench.svg"
#: Wider than any line: what is cut or folded cannot be read by a program.
_SURELY_WIDE: Final = 10_000


class UsageError(Exception):
    """What the command line asks cannot be measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asked for; empty leaves it to the default."""

    model: str = "tiny"
    workloads: Sequence[str] = ()
    streams: Sequence[int] = ()
    arms: Sequence[str] = ()
    rounds: int = 5
    seconds: float = inf
    seed: int | None = None
    quick: bool = False
    limit: Sequence[int] = ()
    report: Path | None = None


def run(options: Options, *, as_json: bool) -> int:
    """Measure; 0 when every answer was mlx-lm's and every round's work the same, else 1."""
    try:
        return _run(options, as_json=as_json)
    except (UsageError, ModelError) as error:
        return refuse(f"phase5 bench: {error}", USAGE, as_json=as_json)
    except (EngineError, RuntimeStartError) as error:
        return refuse(f"phase5 bench: {error}", ERROR, as_json=as_json)


def _run(options: Options, *, as_json: bool) -> int:
    _check(options)
    model, created = resolve_model(options.model), datetime.now(UTC)
    seed = int(created.timestamp()) if options.seed is None else options.seed
    folder = options.report or FOLDER / f"{model.name}-{created:%Y%m%dT%H%M%SZ}"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--report {folder}: not empty; allowed: a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    warn(f"model {model.name}, seed {seed}, report {folder}")
    outcome = _compared(options, model, seed, folder)
    shares = [
        Share(model=model, streams=streams, rounds=options.rounds, seed=seed).measure(folder, warn)
        for streams in options.limit
    ]
    facts = document(model, seed, options.rounds, outcome, shares)
    _write(folder, facts)
    if as_json:
        sys.stdout.write(json.dumps({**facts, "report": str(folder)}, allow_nan=False) + "\n")
    else:
        _show(facts)
        sys.stdout.write(f"report: {folder}\n")
    return DONE if sound(facts) else ERROR


def _compared(options: Options, model: ModelFiles, seed: int, folder: Path) -> Outcome | None:
    """The rounds; none where only the share of the limit was asked for."""
    if options.limit and not options.workloads:
        return None
    size = sum(file.stat().st_size for file in model.path.glob("*.safetensors"))
    fast = size <= FAST_BYTES
    found = cells(
        options.workloads or WORKLOADS,
        options.streams,
        fast=fast,
        quick=options.quick,
    )
    order = Order(
        model=model,
        cells=tuple(found),
        arms=options.arms or ARMS,
        rounds=options.rounds,
        seed=seed,
        seconds=options.seconds,
        patient=not fast,
    )
    return carry_out(order, folder, warn)


def _check(options: Options) -> None:
    for name, given, allowed in (
        ("--workload", options.workloads, WORKLOADS),
        ("--arm", options.arms, ARMS),
    ):
        strange = [one for one in given if one not in allowed]
        if strange:
            raise UsageError(f"{name} {strange[0]!r}; allowed: {', '.join(allowed)}")
    counts = [*options.streams, *options.limit, options.rounds]
    if any(count < 1 for count in counts):
        raise UsageError("--streams, --limit, --rounds; allowed: 1 or more")


def _write(folder: Path, facts: Mapping[str, Any]) -> None:
    text = json.dumps(facts, indent=1, allow_nan=False) + "\n"
    (folder / RESULT_FILE).write_text(text, encoding="utf-8")
    (folder / PICTURE_FILE).write_text(picture(facts), encoding="utf-8")


def _show(facts: Mapping[str, Any]) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=_SURELY_WIDE)
    for line in (*tables.heading(facts), *tables.reasons(facts)):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    for grid in (tables.arms(facts), tables.ratios(facts), tables.limit(facts)):
        if grid.rows:
            console.print()
            console.print(table(grid), soft_wrap=True)
