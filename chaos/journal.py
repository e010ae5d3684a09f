"""The journal of a run: one JSON document, its part for the gate, and Chaos Toolkit's form."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from platform import node, platform
from typing import Any, Final

from chaos.experiment import Experiment, chaos_toolkit
from chaos.judging import Judgement, Step, Told
from chaos.record import BASELINE, ENDED, HEALED, INJECTED, READY, Effect, Record
from chaos.windows import level
from gates.evidence import ChaosVerdict, Journal

SCHEMA: Final = "phase5.chaos/1"
FILE: Final = "journal.json"
TOOLKIT_FILE: Final = "chaostoolkit.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One run with its verdict."""

    experiment: Experiment
    form: str  #: `short` or `full`
    seed: int
    started: str  #: UTC, ISO 8601
    ended: str
    engine: Mapping[str, str]
    record: Record
    effect: Effect
    told: Told
    judgement: Judgement
    requested: Mapping[str, Any] = field(default_factory=dict)
    read_back: Mapping[str, Any] = field(default_factory=dict)
    control: "Account | None" = None

    @property
    def verdict(self) -> ChaosVerdict:
        """What it came to, the control's part included."""
        return self.judgement.verdict


def gate_journal(account: Account) -> Journal:
    """The part that a gate judges."""
    judgement = account.judgement
    return Journal(
        experiment=account.experiment.name,
        steady_before=judgement.steady_before,
        steady_after=judgement.steady_after,
        proven=account.effect.proven,
        lost_streams=judgement.lost_streams,
        verdict=judgement.verdict,
        recovery_seconds=judgement.times.recovery,
        requested=_plain(account.requested),
        read_back=_plain(account.read_back),
        measured=_plain(account.effect.values),
        reasons=judgement.reasons,
    )


def document(account: Account) -> dict[str, Any]:
    """The whole journal. Times are seconds from the start of the run, on one clock."""
    experiment, judgement = account.experiment, account.judgement
    return _plain(
        {
            "schema": SCHEMA,
            "experiment": experiment.name,
            "title": experiment.title,
            "definition": chaos_toolkit(experiment),
            "definition_sha256": experiment.digest(),
            "form": account.form,
            "seed": account.seed,
            "replay": replay(account),
            "verdict": judgement.verdict.value,
            "reasons": list(judgement.reasons),
            "started": account.started,
            "ended": account.ended,
            "machine": {"node": node(), "platform": platform()},
            "engine": dict(account.engine),
            "fault": {
                "kind": experiment.fault.kind,
                "requested": account.requested,
                "read_back": account.read_back,
                "measured": account.effect.values,
                "proven": account.effect.proven,
                "doubt": "" if account.effect.proven else account.effect.why,
            },
            "timeline": _timeline(account),
            "phases": _phases(account),
            "seconds": asdict(judgement.times),
            "steady": {"before": judgement.steady_before, "after": judgement.steady_after},
            "streams": {
                "sent": sum(map(len, account.record.samples.values())),
                "lost": judgement.lost_streams,
                "errors_charged_to_the_fault": judgement.charged,
            },
            "leaks": list(account.told.leaks),
            "rollbacks": [_step(step, account) for step in account.told.rollbacks],
            "control": document(account.control) if account.control else None,
        }
    )


def exported(account: Account) -> dict[str, Any]:
    """The same run as a journal of Chaos Toolkit's."""
    judgement, told = account.judgement, account.told
    status = {ChaosVerdict.ABORTED: "interrupted", ChaosVerdict.INVALID: "aborted"}.get(
        judgement.verdict, "completed"
    )
    marks = account.record.marks
    run = [
        _activity(action, step, account)
        for action, step in zip(
            chaos_toolkit(account.experiment)["method"],
            [step for step in told.steps if step.what == "inject"],
            strict=False,
        )
    ]
    heals = [_activity({"name": s.what, "type": "action"}, s, account) for s in told.rollbacks]
    return _plain(
        {
            "chaoslib-version": "1.44.0",
            "platform": platform(),
            "node": node(),
            "experiment": chaos_toolkit(account.experiment),
            "start": account.started,
            "status": status,
            "deviated": judgement.verdict is ChaosVerdict.FAIL,
            "steady_states": {
                "before": {"steady_state_met": judgement.steady_before, "probes": []},
                "during": [],
                "after": {"steady_state_met": judgement.steady_after, "probes": []},
            },
            "run": run,
            "rollbacks": heals,
            "end": account.ended,
            "duration": marks.get(ENDED, account.record.begun) - account.record.begun,
        }
    )


def write(folder: Path, account: Account) -> Path:
    """Write both forms into a folder; returns the path of the journal."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in ((FILE, document(account)), (TOOLKIT_FILE, exported(account))):
        partial = folder / f"{name}.partial"
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        partial.replace(folder / name)
    return folder / FILE


def replay(account: Account) -> str:
    """The command that does the same again."""
    full = " --full" if account.form == "full" else ""
    return f"phase5 chaos run {account.experiment.name} --seed {account.seed}{full}"


def _timeline(account: Account) -> list[dict[str, Any]]:
    begun = account.record.begun
    marks = [{"at": at - begun, "what": name} for name, at in account.record.marks.items()]
    steps = [
        {"at": step.at - begun, "what": step.what, "ok": step.ok, "detail": step.detail}
        for step in (*account.told.steps, *account.told.rollbacks)
    ]
    seen = [
        {"at": look.at - begun, "what": "engine", "well": look.well, "detail": look.error}
        for look, former in zip(account.record.looks[1:], account.record.looks, strict=False)
        if look.well != former.well
    ]
    return sorted([*marks, *steps, *seen], key=lambda entry: float(entry["at"]))


def _phases(account: Account) -> dict[str, Any]:
    record = account.record
    phases = {
        "before": (record.before, (BASELINE, READY)),
        "during": (record.during, (INJECTED, HEALED)),
        "after": (record.after, (HEALED, ENDED)),
    }
    return {
        name: {flow: level(samples(flow)).document() for flow in record.samples}
        for name, (samples, marks) in phases.items()
        if all(mark in record.marks for mark in marks)
    }


def _step(step: Step, account: Account) -> dict[str, Any]:
    return {**asdict(step), "at": step.at - account.record.begun}


def _activity(action: Mapping[str, Any], step: Step, account: Account) -> dict[str, Any]:
    return {
        "activity": dict(action),
        "status": "succeeded" if step.ok else "failed",
        "output": step.detail,
        "start": step.at - account.record.begun,
    }


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON would give it back."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(value), default=str))
    return plain
