"""Which step of a growing load is the last, and who gave way in it: pure.

On one machine the generator and the server share the cores, so that the generator may be the
first that cannot go on. A step in which it was late does not count as held. A noisy second
passes, so the next step decides: when that is late as well the search ends, the steps before
stand, and of the server's limit it is only known that it lies beyond them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from gates.samples import Sample
from pytest_phase5.load.checks import GaveWay, pace_faults
from pytest_phase5.load.plan import Plan
from pytest_phase5.load.steps import StopRule

#: Late steps in a row after which the generator has given way.
LATE_IN_A_ROW: Final = 2


@dataclass(frozen=True, slots=True)
class StepEnd:
    """The last step (the number of its block), why it is, and who gave way."""

    block: int
    why: str
    by: GaveWay


@dataclass(slots=True)
class Search:
    """Judges one step after the other.

    Args:
        plan: with the limit of the generator's lag.
        rule: the plan's.
    """

    plan: Plan
    rule: StopRule
    late: list[int] = field(default_factory=list)  #: steps in which the generator was late
    end: StepEnd | None = None

    def is_over(self, step: Sequence[Sample]) -> bool:
        """Take the samples of a whole step, at least one; whether it is the last.

        A server that fails also when its times count from the sending has failed by itself,
        however late its requests were sent: that they were late is then said beside it.
        """
        why, late = self.rule.broken(step), "; ".join(pace_faults(self.plan, step))
        block = step[0].block
        if why is not None and not (late and self.rule.broken(_from_sending(step)) is None):
            beside = f" (also counted from the sending; the generator: {late})" if late else ""
            self.end = StepEnd(block, why + beside, "server")
        elif late:
            self.late.append(block)
            if self._gave_way(block):
                self.end = StepEnd(block, f"the generator did not keep up: {late}", "generator")
        return self.end is not None

    def _gave_way(self, block: int) -> bool:
        return self.late[-LATE_IN_A_ROW:] == list(range(block - LATE_IN_A_ROW + 1, block + 1))


def _from_sending(step: Sequence[Sample]) -> list[Sample]:
    return [s if s.sent is None else replace(s, scheduled=s.sent) for s in step]
