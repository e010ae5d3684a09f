"""The chain from a verdict back to the samples, for one criterion. Pure.

What was demanded and why, what each group came to, which measurements it rests on, and which
lines of which file a person should look at first.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from gates.criteria import TIMES, Criterion, Kind
from gates.evidence import Measurement
from gates.findings import Finding
from gates.groups import about, seconds
from gates.judge import Evidence, Request, judged_alone
from gates.planned import Item, session_of
from gates.rows import row
from gates.samples import Outcome as Ended
from gates.samples import Sample
from gates.stages import Policy
from gates.verdict import rounded

#: Lines that are shown of each file; the count says how many more there are.
MOST_LINES: Final = 5
#: Evidence files begin with a header, and lines are counted from one.
_FIRST_ROW: Final = 2


@dataclass(frozen=True, slots=True)
class Demand:
    """Where a criterion stands in `gates.yaml`, and what its author says of its number."""

    file: str
    line: int
    text: str
    reason: str


def explanation(
    policy: Policy, evidence: Evidence, request: Request, name: str, demand: Demand
) -> dict[str, Any]:
    """The whole chain as a JSON-able document.

    Raises:
        KeyError: a criterion that the policy does not know.
    """
    judged = judged_alone(policy, evidence, request, name)
    criterion = judged.criterion
    told = row(judged)
    session = session_of(evidence.attempts)
    doors = {
        flag: f"{step.origin} to {step.target}"
        for flag, step in request.transitions.items()
        if criterion in policy.required(step)
    }
    return {
        "criterion": name,
        "outcome": told.outcome.value,
        "reason": told.reason,
        "needs": told.needs,
        "stretch": None if told.stretch is None else told.stretch.value,
        "waived": told.waived,
        "judged_as_of": request.now.isoformat(),
        "required_by": doors,
        "demand": {
            "file": demand.file,
            "line": demand.line,
            "text": demand.text,
            "reason": demand.reason,
            "kind": criterion.kind.value,
            "measure": criterion.measure.value,
            "confidence": criterion.confidence,
            "min_samples": criterion.min_samples,
        },
        "findings": [_finding(found) for found in judged.findings],
        "items": [_item(item) for item in session.about(name)],
        "evidence": [
            _measurement(criterion, measured, evidence)
            for measured in sorted(evidence.measurements, key=lambda m: (m.item, m.id))
            if about(criterion, measured)
        ],
    }


def _finding(found: Finding) -> dict[str, Any]:
    interval = found.interval
    return {
        "outcome": found.outcome.value,
        "reason": found.reason,
        "flags": sorted(found.flags),
        "estimate": rounded(found.estimate),
        "interval": [rounded(interval.low), rounded(interval.high)] if interval else None,
        "limit": rounded(found.limit),
        "n": found.n,
        "needs": found.needs,
        "attributed": found.attributed,
    }


def _item(item: Item) -> dict[str, Any]:
    return {"id": item.id, "passed": not item.problem, "problem": item.problem}


def _measurement(criterion: Criterion, measured: Measurement, evidence: Evidence) -> dict[str, Any]:
    place = evidence.places.get(measured.id, "")
    file = next((f for f in evidence.files if f.file == place), None)
    lines = list(notable(criterion, measured))
    return {
        "file": place or None,
        "sha256": file.sha256 if file else None,
        "measurement": measured.id,
        "item": measured.item,
        "run": measured.run,
        "created": measured.created,
        "machine": measured.machine,
        "arms": {arm: engine.flag_set for arm, engine in sorted(measured.arms.items())},
        "models": sorted({engine.model for engine in measured.arms.values()}),
        "counts": _counts(measured),
        "lines": [{"line": line, "what": what} for line, what in lines[:MOST_LINES]],
        "more_lines": max(0, len(lines) - MOST_LINES),
    }


def _counts(measured: Measurement) -> dict[str, int]:
    """How many rows of each kind: samples by arm and end, checks by answer."""
    ends = Counter(f"{s.arm} {s.outcome}" for s in measured.samples)
    answers = Counter(f"checks {'held' if c.ok else 'broken'}" for c in measured.checks)
    others = {"readings": len(measured.usage), "experiments": len(measured.journals)}
    return {**ends, **answers, **{name: count for name, count in others.items() if count}}


def notable(criterion: Criterion, measured: Measurement) -> Iterator[tuple[int, str]]:
    """The lines that decide: what failed, took longer than the limit, broke or is not proven.

    Line numbers are those of our own files; in a report of another program a name has to do.
    """
    at = _FIRST_ROW
    for sample in measured.samples:
        what = _of_sample(criterion, sample)
        if what:
            yield at, f"request {sample.index}, {sample.arm}: {what}"
        at += 1
    for check in measured.checks:
        if not check.ok:
            yield at, f"check {check.name!r} broken: {check.detail or 'without a detail'}"
        at += 1
    at += len(measured.usage)
    for journal in measured.journals:
        yield at, f"experiment {journal.experiment}: {journal.verdict}"
        at += 1


def _of_sample(criterion: Criterion, sample: Sample) -> str:
    if sample.outcome is not Ended.OK:
        return f"{sample.outcome}{f': {sample.error}' if sample.error else ''}"
    over = criterion.kind is Kind.CEILING and criterion.measure in TIMES
    time = seconds(sample, criterion.measure) if over else None
    if time is not None and criterion.limit is not None and time > criterion.limit:
        return f"{1000 * time:.4g} ms" if isfinite(time) else "no time"
    return ""
