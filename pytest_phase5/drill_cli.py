"""`phase5 drill`: plain functions that print and return a status: 0 when it passed, else 1."""

import asyncio
import datetime as dt
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from engine.config import ConfigError
from gates.engines import clients
from gates.evidence import EVIDENCE_DIR, Measurement, write_measurement
from gates.exits import DONE, ERROR, USAGE, refuse, say, say_json
from gates.fleet import state_folder
from gates.guarding.drill import DRILL_ITEM, Drilled, journal_of, lines
from gates.guarding.live_drill import LiveDrill, live_lines, rehearse_live
from gates.guarding.rehearsal import DrillError
from gates.journal import ChaosVerdict, Journal
from gates.store import StoreError
from pytest_phase5.drilling import Scratch, drill, engine_of, requested
from pytest_phase5.engines import EngineError
from pytest_phase5.recording import machine

#: The criterion that a drill is evidence for.
CRITERION: Final = "drill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A drill as it was asked for."""

    scratch: Scratch
    report: Path
    live: bool = False
    confirm: Callable[[str], bool] = lambda _: False


def run(order: Order, *, as_json: bool) -> int:
    """Carry a drill out, and write what it showed."""
    try:
        return _live(order, as_json=as_json) if order.live else _scratch(order, as_json=as_json)
    except ConfigError as error:
        return refuse(str(error), USAGE, as_json=as_json)
    except (DrillError, EngineError, StoreError, OSError) as error:
        return refuse(f"no drill: {error}", ERROR, as_json=as_json)


def _scratch(order: Order, *, as_json: bool) -> int:
    with TemporaryDirectory(prefix="phase5-drill-") as folder:
        drilled = drill(order.scratch, Path(folder))
    journal = journal_of(drilled, requested(order.scratch))
    path = write_measurement(order.report / EVIDENCE_DIR, _measurement(drilled, journal))
    if as_json:
        say_json({**_document(journal), "evidence": str(path)})
    else:
        for line in (*lines(drilled, journal), f"evidence: {path}"):
            say(line)
    return DONE if journal.verdict is ChaosVerdict.PASS else ERROR


def _live(order: Order, *, as_json: bool) -> int:
    """On the engines of the configuration, after a person agreed."""
    config = order.scratch.config
    folder = state_folder(config) / "drill"
    found = asyncio.run(_rehearse(config, folder, order.confirm))
    if found is None:
        return refuse("no drill: not confirmed", ERROR, as_json=as_json)
    if as_json:
        say_json(found.document())
    else:
        for line in live_lines(found):
            say(line)
    return DONE if found.passed else ERROR


async def _rehearse(config: Path, folder: Path, confirm: Callable[[str], bool]) -> LiveDrill | None:
    from gates.direct import Direct
    from gates.guarding.building import built
    from gates.guarding.evidence import Evidence

    direct = Direct()
    parts = built(config, folder, Evidence(direct, (direct,)))
    rollout = parts.store.read().config.rollout
    urls = parts.configuration.rollout.engines or rollout.engines
    if not urls:
        raise DrillError(f"{config}: rollout.engines names none")
    async with clients(urls, ca=Path(rollout.ca) if rollout.ca else None) as engines:
        return await rehearse_live(parts.guard, engines, confirm)


def _measurement(drilled: Drilled, journal: Journal) -> Measurement:
    return Measurement(
        run=uuid.uuid4().hex,
        item=DRILL_ITEM,
        attempt=1,
        criteria=(CRITERION,),
        arms={"treatment": engine_of(drilled).identity},
        machine=machine(),
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        journals=(journal,),
    )


def _document(journal: Journal) -> dict[str, Any]:
    return {
        "verdict": journal.verdict.value,
        "lost_streams": journal.lost_streams,
        "requested": dict(journal.requested),
        "engines": dict(journal.read_back),
        **journal.measured,
        "reasons": list(journal.reasons),
    }
