"""Everything that a report needs, read from its folder; what cannot be read is said."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from chaos.journal import FILE as CHAOS_FILE
from chaos.journal import SCHEMA as CHAOS_SCHEMA
from gates.criteria import Criterion
from gates.evidence import VERDICT_FILE, EvidenceError
from gates.judge import Evidence, judged_alone
from gates.planned import session_of
from gates.reader import read_folder
from gates.recompute import differences, request_of
from gates.rows import Judged
from gates.stages import Policy
from gates.verdict import Verdict, digest, from_json

_LOGS: Final = "logs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What was found in a folder.

    Attributes:
        folder: its name, as commands shall name it.
        evidence: its samples and attempts.
        verdict: None where there is none that can be read; `problem` then says why.
        digest: SHA-256 of the verdict's text.
        differences: where a recomputation of the verdict differs from it.
        judged: the criteria of the verdict with all their findings.
        criteria: those of the policy.
        chaos: whole journals of the experiments that evidence speaks of.
    """

    folder: str
    evidence: Evidence
    verdict: Verdict | None = None
    problem: str = ""
    digest: str = ""
    differences: tuple[str, ...] = ()
    judged: tuple[Judged, ...] = ()
    criteria: tuple[Criterion, ...] = ()
    chaos: tuple[Mapping[str, Any], ...] = ()


def gather(folder: Path, policy: Policy) -> Gathered:
    """Read a folder that exists.

    Args:
        folder: where a session, or a guard, left its evidence.
        policy: the thresholds, to work the verdict out again, and for stretch goals.
    """
    evidence = read_folder(folder)
    text, verdict, problem = _verdict(folder / VERDICT_FILE)
    read = Gathered(
        folder=str(folder),
        evidence=evidence,
        problem=problem,
        criteria=tuple(policy.criteria.values()),
        chaos=tuple(_chaos(folder, evidence)),
    )
    if verdict is None:
        return read
    return replace(
        read,
        verdict=verdict,
        digest=digest(text),
        differences=_differences(folder, text, verdict, policy),
        judged=_judged(policy, evidence, verdict),
    )


def _verdict(path: Path) -> tuple[str, Verdict | None, str]:
    try:
        text = path.read_text(encoding="utf-8")
        return text, from_json(text), ""
    except FileNotFoundError:
        return "", None, f"There is no {path.name} in this folder."
    except OSError as error:
        return "", None, f"{path.name} is not readable: {error.strerror}"
    except (ValueError, EvidenceError) as error:
        return "", None, str(error)


def _differences(folder: Path, text: str, verdict: Verdict, policy: Policy) -> tuple[str, ...]:
    mine, theirs = policy.digest(), verdict.subject.policy_sha256
    if mine != theirs:
        other = f"judged by the policy {theirs[:12]}, read with {mine[:12]}"
        return (f"it was {other}: name its configuration with --config",)
    try:
        return tuple(differences(folder, text, verdict, policy))
    except (ValueError, KeyError, TypeError) as error:
        return (f"it cannot be worked out again: {error}",)


def _judged(policy: Policy, evidence: Evidence, verdict: Verdict) -> tuple[Judged, ...]:
    request = request_of(verdict, session_of(evidence.attempts))
    names = [row.id for row in verdict.criteria if row.id in policy.criteria]
    return tuple(judged_alone(policy, evidence, request, name) for name in names)


def _chaos(folder: Path, evidence: Evidence) -> Iterator[Mapping[str, Any]]:
    """The journals that belong to a row of evidence: logs of earlier sessions may lie beside."""
    known = [_key(j.experiment, j.measured) for m in evidence.measurements for j in m.journals]
    for path in sorted((folder / _LOGS).rglob(CHAOS_FILE)):
        try:
            journal = json.loads(path.read_text(encoding="utf-8"))
            ours = journal["schema"] == CHAOS_SCHEMA
            key = _key(journal["experiment"], journal["fault"]["measured"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # the timeline then says that this experiment has no journal
        if ours and key in known:
            yield journal


def _key(experiment: str, measured: Mapping[str, Any]) -> str:
    return f"{experiment} {json.dumps(measured, sort_keys=True, default=str)}"
