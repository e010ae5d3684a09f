"""Two engines measured in turn until the judge could tell, or a bounded number of looks."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gates.criteria import Criterion, Outcome
from gates.evidence import Measurement
from gates.groups import Group
from gates.kinds import assess
from gates.samples import Sample
from pytest_phase5.fixtures import EnginePair
from pytest_phase5.load.driver import LoadResult, run_plan
from pytest_phase5.load.plan import SMALLEST_LIMIT
from pytest_phase5.load.plans import interleaved
from pytest_phase5.load.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Outcomes that further samples could still change.
OPEN: Final = frozenset({Outcome.INCONCLUSIVE, Outcome.NO_DATA})


def measure_in_turn(
    pair: EnginePair,
    workload: Workload,
    criteria: "Sequence[Criterion]",
    folder: Path,
    *,
    pairs: int,
) -> LoadResult:
    """Ask both engines the same questions, A B B A, until every criterion is settled.

    One request at a time and the arms in turn: what the machine does meanwhile hits both.
    Each criterion says how often may be looked (`looks`) and pays for it in confidence, so
    going on after a look that did not settle it is not choosing the sample.

    Args:
        pair: treatment and control, both running.
        workload: what to ask; the model's name is filled in.
        criteria: comparisons between the arms.
        folder: where the generator keeps its files.
        pairs: pairs of requests between two looks.
    """
    asked = replace(workload, model=pair.control.identity.model)
    samples: list[Sample] = []
    looks = min((criterion.looks for criterion in criteria), default=1)
    for look in range(looks):
        plan = interleaved(
            pair.treatment.url,
            pair.control.url,
            rounds=pairs,
            per_block=1,
            concurrency=1,
            seed=look,
            workload=asked,
        )
        result = run_plan(plan, folder / f"look-{look}", self_check=SMALLEST_LIMIT)
        samples += _after(samples, result.samples)
        if not result.valid or _settled(pair, criteria, samples):
            break
    return replace(result, samples=tuple(samples))


def _after(earlier: "Sequence[Sample]", later: "Sequence[Sample]") -> list[Sample]:
    """Number the samples of a later run on from an earlier one: blocks find their partners."""
    if not earlier:
        return list(later)
    index = max(sample.index for sample in earlier) + 1
    block = max(sample.block for sample in earlier) + 1
    return [replace(s, index=s.index + index, block=s.block + block) for s in later]


def _settled(
    pair: EnginePair, criteria: "Sequence[Criterion]", samples: "Sequence[Sample]"
) -> bool:
    arms = {"treatment": pair.treatment.identity, "control": pair.control.identity}
    measurement = Measurement(
        run="",
        item="",
        attempt=1,
        criteria=tuple(criterion.id for criterion in criteria),
        arms=arms,
        machine="",
        created="",
        samples=tuple(samples),
    )
    treatment, control = pair.treatment.identity, pair.control.identity
    group = Group("", treatment.model, treatment.flag_set, control.flag_set, (measurement,))
    found = [finding for criterion in criteria for finding in assess(criterion, group)]
    return all(finding.outcome not in OPEN for finding in found)
