"""A verdict worked out again from its evidence, and every place where the two differ."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from gates.judge import Request, judge
from gates.planned import Session, session_of
from gates.reader import read_folder
from gates.stages import STAGES, Policy, Transition
from gates.verdict import Verdict, document, to_json


def recompute(folder: Path, verdict: Verdict, policy: Policy) -> list[str]:
    """Judge a folder as of the verdict's own time; the differences, none when it holds.

    What evidence cannot tell (time, subject's epochs, environment) is taken from the verdict:
    a promotion compares those with the store.

    Raises:
        ValueError: when the verdict names times, flags or stages that do not exist.
    """
    evidence = read_folder(folder)
    again = judge(policy, evidence, request_of(verdict, session_of(evidence.attempts)))
    return list(_differences("", document(verdict), document(again)))


def differences(folder: Path, text: str, verdict: Verdict, policy: Policy) -> list[str]:
    """Where the text of a verdict differs from what its evidence comes to.

    Raises:
        ValueError: as for `recompute`.
    """
    found = recompute(folder, verdict, policy)
    return found if found or text == to_json(verdict) else ["the text is not canonical"]


def request_of(verdict: Verdict, session: Session, now: datetime | None = None) -> Request:
    """What was asked of the judge for a verdict; at another time, if one is given."""
    each = verdict.transition["each"]
    steps = {flag: Transition(step["from"], step["to"]) for flag, step in each.items()}
    return Request(
        stage=gated(session, steps),
        transitions=steps,
        now=now or datetime.fromisoformat(verdict.created),
        subject=verdict.subject,
        dry_run=verdict.dry_run,
        environment=verdict.environment,
    )


def gated(session: Session, steps: Mapping[str, Transition]) -> str:
    """The stage of a session's gate; where its rows are lost, one that the steps enter."""
    if session.stage in STAGES[1:]:
        return session.stage
    return next((step.target for step in steps.values()), STAGES[1])


def _differences(at: str, given: Any, found: Any) -> Iterator[str]:
    if isinstance(given, Mapping) and isinstance(found, Mapping):
        for key in sorted(given.keys() | found.keys()):
            yield from _differences(f"{at}.{key}".strip("."), given.get(key), found.get(key))
    elif isinstance(given, list) and isinstance(found, list) and len(given) == len(found):
        for index, pair in enumerate(zip(given, found, strict=True)):
            yield from _differences(f"{at}.{index}", *pair)
    elif given != found:
        yield f"{at}: the verdict says {_short(given)}, the evidence {_short(found)}"


def _short(value: Any) -> str:
    return f"{len(value)} entries" if isinstance(value, list) else repr(value)
