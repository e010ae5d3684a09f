"""Which step of a growing load is the last, and who gave way in it: pure.

On one machine the generator and the server share the cores, so that the generator may be the
first that cannot go on. A step in which it was late does not count as held: the search ends
there, the steps before it stand, and the server's limit is only known to lie beyond them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gates.samples import Sample
from pytest_phase5.load.checks import GaveWay, pace_faults
from pytest_phase5.load.plan import Plan
from pytest_phase5.load.steps import StopRule


@dataclass(frozen=True, slots=True)
class StepEnd:
    """The last step (the number of its block), why it is, and who gave way."""

    block: int
    why: str
    by: GaveWay


def step_end(plan: Plan, rule: StopRule, step: Sequence[Sample]) -> StepEnd | None:
    """How the search ends with this step; None when it goes on.

    A server that fails also when its times count from the sending has failed by itself,
    however late its requests were sent: that they were late is then said beside it.

    Args:
        plan: with the limit of the generator's lag.
        rule: the plan's.
        step: the samples of the whole step, at least one.
    """
    why, late = rule.broken(step), "; ".join(pace_faults(plan, step))
    number = step[0].block
    if why is not None and not (late and rule.broken([_from_sending(s) for s in step]) is None):
        beside = f" (also counted from the sending; the generator: {late})" if late else ""
        return StepEnd(number, why + beside, "server")
    return StepEnd(number, f"the generator did not keep up: {late}", "generator") if late else None


def _from_sending(sample: Sample) -> Sample:
    return sample if sample.sent is None else replace(sample, scheduled=sample.sent)
