"""Where the rollout stands: the store's view, the engines' views, and what of the soak is left."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.core.flags import FLAGS
from gates.briefing import Brief
from gates.engine_views import EngineView
from gates.engines import EngineError
from gates.fleet import state_folder
from gates.guarding.folder import HEARTBEAT_FILE, TOLD_FILE, read_json
from gates.ledger import LedgerError
from gates.ledger_file import LEDGER_FOLDER, name_of, read
from gates.ledger_fold import LedgerFold
from gates.scene import Guard
from gates.stages import Policy
from gates.standing import Standing
from gates.store import Snapshot

#: Where a guard keeps its ledgers, in the state folder of its configuration.
GUARD_FOLDER = "guard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    """How far a stage has lasted, in minutes with valid evidence.

    `valid` is None where no guard of this configuration has a ledger, or it cannot be read
    (`trouble` says why): then nothing is known.
    """

    demanded: int
    valid: int | None = None
    trouble: str = ""

    @property
    def left(self) -> int | None:
        """Minutes that are missing."""
        return None if self.valid is None else max(self.demanded - self.valid, 0)


@dataclass(frozen=True, slots=True)
class Witness:
    """The Prometheus of the configuration, and why it does not answer; empty when it does."""

    url: str
    trouble: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What was seen."""

    where: str = ""
    generation: int | None = None
    flags: Mapping[str, Standing] = field(default_factory=dict)
    soaks: Mapping[str, Soak] = field(default_factory=dict)
    engines: Mapping[str, EngineView | EngineError] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    briefs: tuple[Brief, ...] = ()
    guard: Guard = field(default_factory=Guard)
    prometheus: Witness | None = None  #: None where none is configured


def guard_of(config: Path) -> Guard:
    """What a guard of this configuration left on this machine."""
    folder = state_folder(config) / GUARD_FOLDER
    told = read_json(folder / TOLD_FILE)
    return Guard(beat=_beat(read_json(folder / HEARTBEAT_FILE)), told=_texts(told))


def _beat(body: Mapping[str, Any]) -> datetime | None:
    """When it lived; a heartbeat that cannot be read is none."""
    try:
        at = datetime.fromisoformat(body["at"])
    except (KeyError, TypeError, ValueError):
        return None
    return at if at.tzinfo else None


def _texts(told: Mapping[str, Any]) -> dict[str, str]:
    entries = {key: entry.get("text") for key, entry in told.items() if isinstance(entry, dict)}
    return {key: text for key, text in entries.items() if isinstance(text, str)}


def soak_of(config: Path, policy: Policy, flag: str, standing: Standing) -> Soak | None:
    """The soak of a flag's stage; None where the stage has none."""
    stage = policy.stages.get(standing.stage)
    if stage is None or not stage.soak_hours:
        return None
    demanded = round(60 * stage.soak_hours)
    path = state_folder(config) / GUARD_FOLDER / LEDGER_FOLDER / name_of(flag, standing.epoch)
    if not path.exists():
        return Soak(demanded=demanded)
    try:
        ledger = read(path)
    except LedgerError as error:
        return Soak(demanded=demanded, trouble=str(error))
    if ledger.problems:
        return Soak(demanded=demanded, trouble=ledger.problems[0])
    fold = LedgerFold(ledger.header)
    fold.fold(ledger.rows)
    return Soak(demanded=demanded, valid=fold.valid, trouble=fold.disorder)


def problems_of(snapshot: Snapshot, engines: Mapping[str, EngineView | EngineError]) -> list[str]:
    """What an operator should look at, a line each."""
    found: list[str] = []
    for url, engine in engines.items():
        if isinstance(engine, EngineError):
            found.append(f"{url}: no answer: {engine.reason}")
            continue
        if engine.generation != snapshot.generation:
            found.append(f"{url}: at generation {engine.generation}, store {snapshot.generation}")
        found += [f"{url}: {what}" for flag in FLAGS for what in _of_flag(engine, flag, snapshot)]
        if engine.lease.lapsed:
            frozen = ", frozen at full" if engine.lease.frozen else ""
            found.append(f"{url}: its lease lapsed: no guard renews it{frozen}")
    return found


def _of_flag(engine: EngineView, flag: str, snapshot: Snapshot) -> list[str]:
    view, standing = engine.flags[flag], snapshot.flags[flag]
    found = []
    if view.unmanaged:
        found.append(f"{flag} at {view.effective:g} % by hand: unmanaged, never promotable")
    if view.braked and standing.percentage:
        found.append(f"{flag} braked ({view.cause}), and the store still has {standing.stage}")
    return found


def document(status: Status) -> dict[str, Any]:
    """The status as JSON has it."""
    return {
        "store": status.where or None,
        "generation": status.generation,
        "flags": {flag: _flag(status, flag) for flag in status.flags},
        "engines": {url: _engine(engine) for url, engine in status.engines.items()},
        "problems": list(status.problems),
        "briefs": [_brief(brief) for brief in status.briefs],
        "guard": {
            "beat": status.guard.beat.astimezone(UTC).isoformat() if status.guard.beat else None,
            "told": list(status.guard.told.values()),
        },
        "prometheus": asdict(status.prometheus) if status.prometheus else None,
    }


def _brief(brief: Brief) -> dict[str, Any]:
    return {**asdict(brief), "level": brief.level.name.lower()}


def _flag(status: Status, flag: str) -> dict[str, Any]:
    standing = status.flags[flag]
    soak = status.soaks.get(flag)
    entered = standing.entered_at
    return {
        **asdict(standing),
        "tombstones": list(standing.tombstones),
        "lifted": list(standing.lifted),
        "entered_at": entered.astimezone(UTC).isoformat() if entered else None,
        "managed": standing.managed,
        "next": standing.following or None,
        "soak": None
        if soak is None
        else {
            "demanded_minutes": soak.demanded,
            "valid_minutes": soak.valid,
            "left_minutes": soak.left,
            "trouble": soak.trouble or None,
        },
    }


def _engine(engine: EngineView | EngineError) -> dict[str, Any]:
    if isinstance(engine, EngineError):
        return {"error": engine.reason}
    return {**asdict(engine), "error": None}


def lease_left(engine: EngineView, now: datetime) -> float | None:
    """Seconds of an engine's lease; None when it needs none."""
    expires = engine.lease.expires_at
    return None if expires is None else expires - now.timestamp()
