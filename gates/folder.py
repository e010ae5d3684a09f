"""Judging a report folder again, without the session that filled it."""

import platform
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from engine.config import Config
from engine.core.flags import FLAGS
from gates.evidence import VERDICT_FILE, EvidenceError, Measurement
from gates.judge import Evidence, Request
from gates.planned import Session, session_of
from gates.recompute import gated, request_of
from gates.stages import OFF, STAGES, Transition, door
from gates.verdict import Subject, Verdict, from_json


def request_for(folder: Path, evidence: Evidence, config: Config, now: datetime) -> Request:
    """The request of the folder's verdict; without a readable one, that of its session."""
    session = session_of(evidence.attempts)
    verdict = _verdict(folder / VERDICT_FILE)
    if verdict is not None:
        return request_of(verdict, session, now)
    stage = gated(session, {})
    flags = [flag for flag in FLAGS if flag in session.flags] or list(FLAGS)
    doors = {flag: door(stage, _standing(config, session, flag)) for flag in flags}
    into = Transition(STAGES[STAGES.index(stage) - 1], stage)
    return Request(
        stage=stage,
        transitions={flag: step or into for flag, step in doors.items()},
        now=now,
        subject=subject_of(evidence.measurements, config, flags, session.run),
        # A flag that stands elsewhere by now cannot go through this door.
        dry_run=session.dry_run or None in doors.values(),
        environment={
            "machine": machine_of(evidence.measurements, session.run),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
    )


def subject_of(
    measurements: Iterable[Measurement], config: Config, flags: Iterable[str], run: str
) -> Subject:
    """The build that a run measured first; any other one then shows as a stranger."""
    ordered = _own_first(measurements, run)
    engines = [engine for m in ordered for _, engine in sorted(m.arms.items())]
    first = engines[0] if engines else None
    models: dict[str, str] = {}
    for engine in engines:
        models.setdefault(engine.model, engine.model_sha256)
    return Subject(
        commit=first.commit if first else "unknown",
        config_sha256=first.config_sha256 if first else "unknown",
        engine_version=first.engine_version if first else "unknown",
        epochs={flag: config.phase4_rollout.flag(flag).epoch for flag in flags},
        models=models,
    )


def machine_of(measurements: Iterable[Measurement], run: str) -> str:
    """The class of the machine that a run measured on first; empty when it measured nothing."""
    return next((m.machine for m in _own_first(measurements, run) if m.run == run), "")


def _own_first(measurements: Iterable[Measurement], run: str) -> list[Measurement]:
    """What was given from elsewhere may be older, and is still the guest."""
    return sorted(measurements, key=lambda m: (m.run != run, m.created, m.id))


def _verdict(path: Path) -> Verdict | None:
    """A verdict that is missing or unreadable is judged anew from the session."""
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, EvidenceError):
        return None


def _standing(config: Config, session: Session, flag: str) -> str:
    recorded = config.phase4_rollout.flag(flag).stage
    return OFF if session.dry_run or recorded is None else recorded
