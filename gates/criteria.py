"""What can be demanded, and how a demand can turn out. Data only; `gates.yaml` fills it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """The form of a demand."""

    CEILING = "ceiling"  #: a rate, or a quantile of a time, stays under `limit`
    FLOOR = "floor"  #: a rate stays over `limit`
    IMPROVEMENT = "improvement"  #: treatment over control is better by `margin`
    NON_INFERIORITY = "non_inferiority"  #: treatment over control is at most `margin`
    INVARIANT = "invariant"  #: holds exactly, without exception
    CHAOS = "chaos"  #: recovered within `limit`, nothing lost


class Measure(StrEnum):
    """What is looked at."""

    ERROR_RATE = "error_rate"  #: (failed + cut) / (ok + failed + cut)
    TTFT = "ttft"  #: seconds from the scheduled time to the first generated text
    LATENCY = "latency"  #: seconds from the scheduled time to the end
    CHECKS = "checks"  #: the checks that a test wrote
    LOST_STREAMS = "lost_streams"  #: streams that began and never ended, and the checks
    MEMORY_SLOPE = "memory_slope"  #: bytes of resident memory that each request leaves behind
    ATTEMPTS = "attempts"  #: what pytest did with each planned item
    SHED_RATE = "shed_rate"  #: shed / ended
    EARLY_CANCELS = "early_cancels"  #: cancelled before the first token / ended
    CRASHES = "crashes"  #: unplanned restarts and stalls of engines
    SOAK = "soak"  #: minutes with valid evidence, against those that the stage must last


class Covers(StrEnum):
    """Which flag sets must have been measured before silence can be told from health."""

    EVERY_SET = "every_set"  #: each combination of the judged flags
    EACH_FLAG = "each_flag"  #: for each judged flag, at least one set with it on
    PROJECT = "project"  #: about no flag


class Outcome(StrEnum):
    """How a criterion turned out."""

    FAIL = "fail"  #: confidently broken
    INVALID = "invalid"  #: there is evidence, but it cannot be trusted
    NO_DATA = "no_data"  #: what was required is missing
    INCONCLUSIVE = "inconclusive"  #: sound evidence, too little to tell
    PASS = "pass"  # noqa: S105 - confidently met; not a password


#: The one order of outcomes. A failure outranks doubt about other evidence: it was shown.
WORST_FIRST: Final = tuple(Outcome)

#: Measures of time, which need the machine to themselves.
TIMES: Final = frozenset({Measure.TTFT, Measure.LATENCY})

#: Which measures each kind can judge today; a kind that is not here has no judge yet.
JUDGED: Final = {
    Kind.CEILING: frozenset(
        {Measure.ERROR_RATE, Measure.TTFT, Measure.LATENCY, Measure.MEMORY_SLOPE}
    ),
    Kind.NON_INFERIORITY: TIMES,
    Kind.INVARIANT: frozenset({Measure.CHECKS, Measure.LOST_STREAMS, Measure.ATTEMPTS}),
}

#: Which measures each kind can judge from live traffic.
JUDGED_LIVE: Final = {
    Kind.CEILING: frozenset({Measure.ERROR_RATE, Measure.TTFT, Measure.LATENCY}),
    Kind.NON_INFERIORITY: frozenset({*TIMES, Measure.SHED_RATE, Measure.EARLY_CANCELS}),
    Kind.IMPROVEMENT: TIMES,
    Kind.INVARIANT: frozenset({Measure.CRASHES, Measure.SOAK}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One measurable demand.

    `limit` is a share for rates, seconds for times and bytes a request for memory; `margin` is
    a ratio of treatment to control; `confidence` is that of each one-sided bound;
    `min_samples` is the least number of observations (pairs in a comparison, checks in an
    invariant) that can pass; `looks` is how often a test may look at what it has and go on
    measuring.
    """

    id: str
    kind: Kind
    measure: Measure
    direction: str
    limit: float | None = None
    margin: float | None = None
    quantile: float | None = None
    confidence: float = 0.95
    looks: int = 1
    min_samples: int = 1
    source: str = "tests"
    critical: bool = False
    attribution: bool = True  #: a rollback also needs to be worse than control, where measured
    covers: Covers = Covers.EACH_FLAG
    max_age_hours: float = 24.0
    design_effect: float = 1.5  #: of live times before enough is known: from an A/A run

    @property
    def confidence_of_a_look(self) -> float:
        """The confidence of one bound at one look: the chance of a mistake is shared out."""
        return 1 - (1 - self.confidence) / self.looks


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The worst of some outcomes; of none it is `no_data`, since absence is never success."""
    return min(outcomes, key=WORST_FIRST.index, default=Outcome.NO_DATA)
