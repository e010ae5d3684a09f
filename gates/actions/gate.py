"""The action `phase5-gate`: runs a gated session and says what it came to.

It never fails its job. Whatever breaks gives the verdict `none`, and a step that could not even say
that leaves its output empty, which the action reads as `none`, too.
"""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from engine.config import ConfigError, load_config, packaged
from gates.actions.outcome import AUTO, EVERY, NONE, Outcome, broken, concluded, stage_in_turn
from gates.actions.places import places
from gates.actions.session import Asked, InputError, LateError, run
from gates.actions.summary import notes, summary
from gates.evidence import ATTEMPTS_FILE
from gates.exits import DONE
from gates.github import Level, add_summary, annotate, get_input, set_output
from gates.policy import POLICY_FILE, policy_beside
from gates.store import StoreError, open_store
from gates.verdict import Decision

#: Where the store's configuration is laid for the session, below the runner's own folder.
_REPLICA: Final = "phase5-store"

#: GitHub shows so many annotations of a level for one step.
_ANNOTATIONS: Final = 10


def gate() -> int:
    """Judge; always 0."""
    report = Path(get_input("report", "phase5-report")).resolve()
    try:
        outcome = _judged(report)
    except (InputError, LateError, ConfigError, StoreError, OSError, ValueError) as error:
        outcome = broken(str(error))
    _say(outcome, report)
    return DONE


def _judged(report: Path) -> Outcome:
    config = _replica(Path(get_input("config", "config/runtime.yaml")))
    from_off = _switch("from_off")
    stage, flags = get_input("stage", AUTO), get_input("flags", EVERY)
    if stage == AUTO:
        stage, own = stage_in_turn(open_store(config).read().flags, datetime.now(UTC))
        if not stage:
            reason = "no flag is on its way: the first step from off is asked for by its stage"
            return Outcome(verdict=Decision.HOLD.value, reason=reason)
        flags = own if flags == EVERY else flags
    asked = Asked(
        stage=stage,
        flags=flags,
        config=config,
        report=report,
        evidence=_lines("evidence"),
        tests=_lines("tests"),
        model=get_input("model"),
        prometheus=get_input("prometheus"),
        from_off=from_off,
        seconds=_seconds(get_input("minutes", "45")),
    )
    outcome = concluded(*run(asked))
    if outcome.judged is not None and outcome.judged.dry_run != from_off:
        return broken("the verdict is not of the run that was asked for")
    return outcome


def _replica(config: Path) -> Path:
    """The configuration of the store, as a file; the file itself where it is its own store."""
    if not config.exists():
        config = packaged("runtime.yaml")
    if load_config(config).rollout.store is None:
        return config
    text = open_store(config).read().text
    folder = Path(os.environ.get("RUNNER_TEMP") or config.parent) / _REPLICA
    folder.mkdir(parents=True, exist_ok=True)
    policy = config.with_name(POLICY_FILE)
    if policy.exists():
        shutil.copyfile(policy, folder / POLICY_FILE)
    copy = folder / "runtime.yaml"
    copy.write_text(text, encoding="utf-8")
    policy_beside(copy)  # not valid: said here, and not by a session that cannot start
    return copy


def _say(outcome: Outcome, report: Path) -> None:
    """Outputs last: what could not be told to the end has no verdict."""
    add_summary("\n".join(summary(outcome, os.environ)))
    if outcome.verdict == NONE:
        annotate(Level.ERROR, outcome.reason, title="phase5: no verdict")
    if outcome.judged is not None:
        found = places(report / ATTEMPTS_FILE, Path.cwd())
        for note in tuple(notes(outcome.judged, found))[:_ANNOTATIONS]:
            annotate(note.level, note.message, title=note.title, file=note.file, line=note.line)
    for name, value in _outputs(outcome, report).items():
        set_output(name, value)


def _outputs(outcome: Outcome, report: Path) -> dict[str, str]:
    judged = outcome.judged
    return {
        "digest": outcome.digest,
        "reason": outcome.reason,
        "to": outcome.to,
        "guilty": ",".join(outcome.guilty),
        "machine": judged.environment.get("machine", "") if judged else "",
        "report": str(report),
        "verdict": outcome.verdict,
    }


def _lines(name: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in get_input(name).splitlines() if line.strip())


def _switch(name: str) -> bool:
    given = get_input(name, "false")
    if given not in {"true", "false"}:
        raise InputError(f"{name} {given!r}; allowed: true, false")
    return given == "true"


def _seconds(minutes: str) -> float:
    """Minutes as seconds."""
    try:
        given = float(minutes)
    except ValueError:
        given = 0.0
    if not 0 < given <= 24 * 60:
        raise InputError(f"minutes {minutes!r}; allowed: above 0, at most a day")
    return 60 * given
