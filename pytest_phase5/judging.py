"""From a session's folder to its verdict."""

import platform
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gates.attempts import Attempt, Kind, append_attempt
from gates.evidence import ATTEMPTS_FILE, EVIDENCE_DIR, VERDICT_FILE
from gates.folder import subject_of
from gates.judge import Request, judge
from gates.reader import read_folder
from gates.verdict import Decision, Verdict, write_verdict
from pytest_phase5.doors import Judged, config_of, policy_of, required_by_add_ons
from pytest_phase5.given import take
from pytest_phase5.options import Settings
from pytest_phase5.recording import Run, machine


def judge_session(config: pytest.Config, settings: Settings, judged: Judged, run: Run) -> Verdict:
    """Judge what the folder holds, hear objections, and write `verdict.json`.

    The objections are rows of the attempts file, so that a recomputation hears them too.
    """
    _gather(config, settings, judged, run.folder)
    _gather_live(settings, judged, run)
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
        subject=subject_of(evidence.measurements, config_of(settings), judged.flags, run.id),
        dry_run=settings.from_off,
        environment=_environment(run),
    )
    return judge(policy_of(settings), evidence, request)


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
        take(path, folder / EVIDENCE_DIR)


def _gather_live(settings: Settings, judged: Judged, run: Run) -> None:
    """Write the ledgers that a Prometheus can tell. Why one lacks is an objection of its flag.

    The judge misses the ledger by itself; the objection says the reason, also to a recomputation.
    """
    from pytest_phase5.live import gather_live

    configuration = config_of(settings)
    url = settings.prometheus or configuration.rollout.prometheus
    if not url or settings.from_off:
        return
    for flag, reason in gather_live(run.folder, url, configuration, judged.steps).items():
        row = Attempt(
            kind=Kind.OBJECTION,
            run=run.id,
            item="live evidence",
            flags=(flag,),
            outcome=str(Decision.HOLD),
            reason=reason,
        )
        append_attempt(run.folder / ATTEMPTS_FILE, row)
