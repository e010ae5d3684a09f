"""`phase5 gate judge` and `phase5 gate verify`: plain functions that print and return a status."""

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from engine.config import ConfigError, load_config, packaged
from gates.durable import why
from gates.evidence import VERDICT_FILE, EvidenceError
from gates.exits import DONE, ERROR, USAGE, refuse
from gates.folder import request_for
from gates.judge import judge
from gates.policy import policy_beside
from gates.reader import read_folder
from gates.recompute import differences
from gates.verdict import Decision, Verdict, digest, from_json, to_json, write_verdict

__all__ = [
    "DONE",
    "ERROR",
    "STATUS",
    "USAGE",
    "judge_folder",
    "refuse",
    "verify",
]

#: What a verdict makes of the exit status.
STATUS: Final = {Decision.PROMOTE: DONE, Decision.HOLD: 10, Decision.ROLLBACK: 20}


def judge_folder(folder: Path, *, config: Path | None = None, as_json: bool = False) -> int:
    """Judge what a report folder holds, now; writes `verdict.json` if there is a folder.

    Missing, empty or corrupt evidence is a hold; a configuration that cannot serve is usage,
    and a verdict that cannot be written is an error which leaves the former one.
    """
    try:
        policy = policy_beside(config)
        configuration = load_config(config or packaged("runtime.yaml"))
    except ConfigError as error:
        return refuse(str(error), USAGE, as_json=as_json)
    evidence = read_folder(folder)
    verdict = judge(policy, evidence, request_for(folder, evidence, configuration, _now()))
    if folder.is_dir():
        try:
            write_verdict(folder / VERDICT_FILE, verdict)
        except OSError as error:
            message = f"{error.filename}: cannot be written: {why(error)}"
            return refuse(message, ERROR, as_json=as_json)
    _say(to_json(verdict).rstrip() if as_json else "\n".join(_lines(verdict)))
    return STATUS[verdict.verdict]


def verify(path: Path, *, config: Path | None = None, as_json: bool = False) -> int:
    """Work a verdict out again from the evidence beside it; 0 when nothing differs, else 1."""
    try:
        text = path.read_text(encoding="utf-8")
        verdict = from_json(text, path.name)
        found = differences(path.parent, text, verdict, policy_beside(config))
    except ConfigError as error:
        return refuse(str(error), USAGE, as_json=as_json)
    except OSError as error:
        return refuse(f"{path}: cannot be verified: {error.strerror}", ERROR, as_json=as_json)
    except (ValueError, KeyError, TypeError, EvidenceError) as error:
        return refuse(f"{path}: cannot be verified: {error}", ERROR, as_json=as_json)
    _report(verdict, digest(text), found, as_json=as_json)
    return ERROR if found else DONE


def _report(verdict: Verdict, sha256: str, found: list[str], *, as_json: bool) -> None:
    notes = [*(["dry run"] if verdict.dry_run else []), *(["expired"] if _expired(verdict) else [])]
    if as_json:
        document = {
            "verified": not found,
            "verdict": verdict.verdict,
            "sha256": sha256,
            "notes": notes,
            "differences": found,
        }
        _say(json.dumps(document))
        return
    for difference in found:
        _say(difference)
    state = "differs from its evidence" if found else "verified"
    _say(f"{state}: {', '.join([verdict.verdict.value, *notes])}, sha256 {sha256}")


def _lines(verdict: Verdict) -> Iterable[str]:
    for row in verdict.criteria:
        stretch = "" if row.stretch is None else f"; stretch goal: {row.stretch.value}"
        yield f"{'waived' if row.waived else row.outcome.value:<12}  {row.reason}{stretch}"
    for flag, decision in verdict.flags.items():
        yield f"{decision.value:<12}  {flag}"
    yield f"verdict: {verdict.verdict.value}{' (dry run)' if verdict.dry_run else ''}"


def _expired(verdict: Verdict) -> bool:
    return _now() >= datetime.fromisoformat(verdict.expires)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _now() -> datetime:
    return datetime.now(UTC)
