"""What can be demanded, and how a demand can turn out. Data only; `gates.yaml` fills it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """The form of a demand."""

    CEILING = "ceiling"  #: a rate, or a quantile of a time, stays under `limit`
    FLOOR = "floor"  #: a rate or a number stays over `limit`
    IMPROVEMENT = "improvement"  #: treatment over control is better than `margin`
    NON_INFERIORITY = "non_inferiority"  #: treatment over control is no worse than `margin`
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
    THROUGHPUT = "throughput"  #: requests that end well, each second
    STREAMS = "streams"  #: streams that are generated at once
    HIT_RATE = "hit_rate"  #: share of requests that found a part of their prompt already read
    CONNECTIONS = "connections"  #: connections held over HTTP/2, as a share of those over HTTP/1.1
    RECOVERY = "recovery"  #: seconds from the end of a fault to steady service
    SUITE = "suite"  #: the tests of other suites, by their JUnit reports
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

#: Measures of time, of which a quantile is judged.
TIMES: Final = frozenset({Measure.TTFT, Measure.LATENCY})

#: Measures that need the machine to themselves.
ALONE: Final = TIMES | {Measure.THROUGHPUT}

#: Measures of which more is better.
HIGHER: Final = frozenset({Measure.THROUGHPUT, Measure.STREAMS, Measure.HIT_RATE})

#: Which measures each kind can judge.
JUDGED: Final = {
    Kind.CEILING: frozenset(
        {
            *(Measure.ERROR_RATE, Measure.TTFT, Measure.LATENCY),
            *(Measure.MEMORY_SLOPE, Measure.CONNECTIONS),
        }
    ),
    Kind.FLOOR: HIGHER,
    Kind.IMPROVEMENT: ALONE,
    Kind.NON_INFERIORITY: ALONE,
    Kind.INVARIANT: frozenset(
        {Measure.CHECKS, Measure.LOST_STREAMS, Measure.ATTEMPTS, Measure.SUITE}
    ),
    Kind.CHAOS: frozenset({Measure.RECOVERY}),
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

    `limit` is a share for rates, seconds for times, bytes a request for memory, and a count
    otherwise; `margin` is a ratio of treatment to control; `stretch` is a further goal in place
    of either, which is reported and never required; `confidence` is that of each one-sided
    bound; `min_samples` is the least number of observations (pairs in a comparison, checks in
    an invariant, rounds of throughput, runs of each chaos experiment) that can pass; `looks` is
    how often a test may look at what it has and go on measuring.
    """

    id: str
    kind: Kind
    measure: Measure
    direction: str
    limit: float | None = None
    margin: float | None = None
    stretch: float | None = None
    quantile: float | None = None
    confidence: float = 0.95
    looks: int = 1
    min_samples: int = 1
    source: str = "tests"
    critical: bool = False
    attribution: bool = True  #: a rollback also needs to be worse than control, where measured
    covers: Covers = Covers.EACH_FLAG
    max_age_hours: float = 24.0
    design_effect: float = 2.0  #: of live times before enough is known: from an A/A run
    elsewhere: bool = False  #: runs other than the judged session may bring evidence as well
    experiments: tuple[str, ...] = ()  #: chaos: the ones that must have been carried out

    @property
    def confidence_of_a_look(self) -> float:
        """The confidence of one bound at one look: the chance of a mistake is shared out."""
        return 1 - (1 - self.confidence) / self.looks

    def at_stretch(self) -> "Criterion | None":
        """The same demand at its stretch goal, where it has one."""
        if self.stretch is None:
            return None
        if self.margin is None:
            return replace(self, stretch=None, limit=self.stretch)
        return replace(self, stretch=None, margin=self.stretch)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The worst of some outcomes; of none it is `no_data`, since absence is never success."""
    return min(outcomes, key=WORST_FIRST.index, default=Outcome.NO_DATA)
