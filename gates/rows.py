"""From findings to the rows of a verdict, and to a decision for each flag."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from engine.core.flags import FLAGS
from gates.attempts import Attempt
from gates.criteria import HIGHER, WORST_FIRST, Criterion, Outcome, worst
from gates.findings import Finding
from gates.stages import Transition, Waiver
from gates.statistics import Interval
from gates.verdict import CriterionRow, Decision, rounded, worst_decision


@dataclass(frozen=True, slots=True)
class Judged:
    """A criterion with all its findings, and the waiver that answers for it, if one does.

    `stretch` is how its stretch goal turned out, which no decision looks at.
    """

    criterion: Criterion
    findings: tuple[Finding, ...]
    waiver: Waiver | None = None
    stretch: Outcome | None = None

    def about(self, flag: str) -> list[Finding]:
        """The findings about a flag: those with it on, and those about no flag."""
        return [finding for finding in self.findings if not finding.flags or flag in finding.flags]


def answered(judged: Judged, waiver: Waiver | None) -> Judged:
    """A waiver answers only where all that stands in the way was never measured."""
    ways = [finding for finding in judged.findings if finding.outcome is not Outcome.PASS]
    holds = bool(ways) and all(finding.absent for finding in ways)
    return replace(judged, waiver=waiver) if holds else judged


def row(judged: Judged) -> CriterionRow:
    """A criterion as its worst finding has it."""
    first = min(judged.findings, key=_badness(judged.criterion))
    interval = first.interval
    return CriterionRow(
        id=judged.criterion.id,
        outcome=first.outcome,
        reason=f"{_waived(judged.waiver)}{first.reason}{_others(first, judged.findings)}",
        estimate=rounded(first.estimate),
        interval=(rounded(interval.low), rounded(interval.high)) if interval else None,
        limit=rounded(first.limit),
        n=first.n,
        source=judged.criterion.source,
        needs=first.needs,
        waived=judged.waiver is not None,
        stretch=judged.stretch,
    )


def decide(flag: str, required: Iterable[Judged]) -> Decision:
    """Promote only when every criterion passes, roll back for a critical one that is broken."""
    decisions = []
    passed = 0
    for judged in required:
        about = judged.about(flag)
        if judged.criterion.critical and any(finding.attributed for finding in about):
            decisions.append(Decision.ROLLBACK)
        elif worst(finding.outcome for finding in about) is Outcome.PASS:
            passed += 1
        elif judged.waiver is None:
            decisions.append(Decision.HOLD)
    if not passed:  # nothing required, or nothing but waivers: nothing was shown
        decisions.append(Decision.HOLD)
    return worst_decision([*decisions, Decision.PROMOTE])


def objected(flag: str, decision: Decision, objections: Iterable[Attempt]) -> Decision:
    """An add-on can turn green to red, never red to green."""
    theirs = [_demand(given) for given in objections if not given.flags or flag in given.flags]
    return worst_decision([decision, *theirs])


def objection_row(given: Attempt) -> CriterionRow:
    """An objection as the verdict shows it."""
    outcome = Outcome.FAIL if _demand(given) is Decision.ROLLBACK else Outcome.NO_DATA
    reason = f"{given.item or 'an add-on'} objects: {given.reason or 'without a reason'}"
    return CriterionRow(id="objection", outcome=outcome, reason=reason)


def empty_door(step: Transition) -> CriterionRow:
    """A door that demands nothing holds, and says so."""
    reason = "nothing is required at this door, so nothing was shown"
    return CriterionRow(
        id="door", outcome=Outcome.NO_DATA, reason=f"{step.origin} to {step.target}: {reason}"
    )


def transition(steps: Mapping[str, Transition]) -> dict[str, object]:
    """Where the flags go: together, and each."""
    origins = {step.origin for step in steps.values()}
    targets = {step.target for step in steps.values()}
    return {
        "from": origins.pop() if len(origins) == 1 else None,
        "to": targets.pop() if len(targets) == 1 else None,
        "flags": list(steps),
        "each": {flag: {"from": s.origin, "to": s.target} for flag, s in steps.items()},
    }


def in_order(steps: Mapping[str, Transition]) -> dict[str, Transition]:
    """The flags in the order in which a stream meets them."""
    return {flag: steps[flag] for flag in FLAGS if flag in steps}


def _demand(given: Attempt) -> Decision:
    return Decision.ROLLBACK if given.outcome == Decision.ROLLBACK else Decision.HOLD


def _badness(criterion: Criterion) -> Callable[[Finding], tuple[int, float, str]]:
    """Sorts the worst finding first; among equals the worse bound, then a fixed order."""
    higher = criterion.measure in HIGHER

    def badness(finding: Finding) -> tuple[int, float, str]:
        interval = finding.interval or _point(finding.estimate or 0.0)
        bound = interval.low if higher else -interval.high
        return (WORST_FIRST.index(finding.outcome), bound, finding.reason)

    return badness


def _point(number: float) -> Interval:
    return Interval(number, number)


def _others(first: Finding, findings: tuple[Finding, ...]) -> str:
    alike = sum(finding.outcome is first.outcome for finding in findings) - 1
    if not alike:
        return ""
    return f"; worst of {alike + 1}" if first.outcome is Outcome.PASS else f"; and {alike} more"


def _waived(waiver: Waiver | None) -> str:
    if waiver is None:
        return ""
    return f"waived by {waiver.owner} until {waiver.expires}: {waiver.reason}; "
