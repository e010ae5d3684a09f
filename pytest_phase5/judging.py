"""From a session's folder to its verdict."""

import platform
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gates.attempts import Attempt, Kind, append_attempt
from gates.evidence import ATTEMPTS_FILE, EVIDENCE_DIR, VERDICT_FILE
from gates.judge import Evidence, Request, judge
from gates.reader import read_folder
from gates.verdict import Decision, Subject, Verdict, write_verdict
from pytest_phase5.doors import Judged, config_of, policy_of, required_by_add_ons
from pytest_phase5.engines import UNKNOWN
from pytest_phase5.options import Settings
from pytest_phase5.recording import Run, machine


def judge_session(config: pytest.Config, settings: Settings, judged: Judged, run: Run) -> Verdict:
    """Judge what the folder holds, hear objections, and write `verdict.json`.

    The objections are rows of the attempts file, so that a recomputation hears them too.
    """
    _gather(config, settings, judged, run.folder)
    verdict = _judge(settings, judged, run)
    reasons = config.hook.pytest_phase5_verdict(verdict=verdict)
    objections = [str(reason) for reason in reasons if reason]
    for reason in objections:
        row = Attempt(kind=Kind.OBJECTION, run=run.id, outcome=str(Decision.HOLD), reason=reason)
        append_attempt(run.folder / ATTEMPTS_FILE, row)
    if objections:
        verdict = _judge(settings, judged, run)
    write_verdict(run.folder / VERDICT_FILE, verdict)
    return verdict


def _judge(settings: Settings, judged: Judged, run: Run) -> Verdict:
    evidence = read_folder(run.folder)
    request = Request(
        stage=str(settings.gate),
        transitions=judged.steps,
        now=datetime.now(UTC),
        subject=_subject(settings, judged, evidence),
        dry_run=settings.from_off,
        environment=_environment(run),
    )
    return judge(policy_of(settings), evidence, request)


def _subject(settings: Settings, judged: Judged, evidence: Evidence) -> Subject:
    """The engine build that the session measured first; any other then shows as a stranger."""
    ordered = sorted(evidence.measurements, key=lambda m: (m.created, m.id))
    engines = [arm for measurement in ordered for arm in measurement.arms.values()]
    models: dict[str, str] = {}
    for engine in engines:
        models.setdefault(engine.model, engine.model_sha256)
    epochs = {flag: config_of(settings).phase4_rollout.flag(flag).epoch for flag in judged.flags}
    return Subject(
        commit=_first(engine.commit for engine in engines),
        config_sha256=_first(engine.config_sha256 for engine in engines),
        engine_version=_first(engine.engine_version for engine in engines),
        epochs=epochs,
        models=models,
    )


def _first(values: Iterable[str]) -> str:
    return next(iter(values), UNKNOWN)


def _environment(run: Run) -> dict[str, str]:
    return {
        "machine": machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "pytest": pytest.__version__,
        "run": run.id,
    }


def _gather(config: pytest.Config, settings: Settings, judged: Judged, folder: Path) -> None:
    """Copy further evidence into the folder, so that the verdict stands on it alone."""
    policy = policy_of(settings)
    required = {c.id for step in judged.steps.values() for c in policy.required(step)}
    paths = list(settings.evidence)
    for criterion in sorted(required.union(required_by_add_ons(config))):
        for given in config.hook.pytest_phase5_evidence(config=config, criterion=criterion):
            paths += [Path(path) for path in given or ()]
    for path in dict.fromkeys(paths):
        _copy(path, folder / EVIDENCE_DIR)


def _copy(path: Path, target: Path) -> None:
    """Copy a file, or all evidence files of a folder. What is missing leaves a torn file."""
    target.mkdir(parents=True, exist_ok=True)
    sources: Sequence[Path] = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    for source in sources:
        try:
            content = source.read_bytes()
        except OSError:
            content = b""
        (target / f"given-{source.stem}-{uuid.uuid4().hex[:8]}.jsonl").write_bytes(content)
    if not sources:
        (target / f"given-{path.name}-{uuid.uuid4().hex[:8]}.jsonl").write_bytes(b"")
