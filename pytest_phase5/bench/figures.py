"""What a round came to, from its samples. Pure.

A request that never got its first token waited at least until the round was over: that is the
time it counts with. It keeps a server that answers nobody from looking fast, and is less than
the truth.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from gates.samples import Outcome, Sample
from gates.statistics import quantile

#: `whole`: everything was answered. `errors`: something was not. `bounded`: the round was stopped
#: before its end. `unequal`: answers of another length than asked. `invalid`: the client was late.
State = Literal["whole", "errors", "bounded", "unequal", "invalid"]
#: States of rounds that say something of the server. In the others the work was not the same.
COUNTED: Final[frozenset[State]] = frozenset({"whole", "errors", "bounded"})

STOPPED: Final = "run stopped"
#: Of the time to first token: what the requirements ask for, in seconds.
GOOD_TTFT: Final = 0.55
_LOST: Final = frozenset(
    {Outcome.FAILED, Outcome.CUT, Outcome.SHED, Outcome.REJECTED, Outcome.DROPPED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A round: how it ended, and its measures by name (milliseconds, each second, tokens)."""

    state: State
    reason: str = ""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    measures: Mapping[str, float] = field(default_factory=dict)
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


def figures(samples: Sequence[Sample], expected: Sequence[int], fault: str = "") -> Figures:
    """What a round came to.

    Args:
        samples: what came back.
        expected: tokens of the answer to each request of the plan, by its index.
        fault: what the generator says against its own run, if anything.
    """
    outcomes = Counter(str(sample.outcome) for sample in samples)
    state, reason = _state(samples, expected, fault)
    whole = [sample for sample in samples if sample.outcome is Outcome.OK]
    seconds = _length(samples)
    return Figures(
        state=state,
        reason=reason,
        outcomes=dict(outcomes),
        seconds=seconds,
        measures=dict(_measures(samples, seconds)) if seconds > 0 else {},
        prompt_tokens=sum(sample.prompt_tokens or 0 for sample in whole),
        output_tokens=sum(sample.output_tokens or 0 for sample in whole),
        cached_tokens=sum(sample.cached_tokens or 0 for sample in whole),
    )


def _state(samples: Sequence[Sample], expected: Sequence[int], fault: str) -> tuple[State, str]:
    wrong = [
        sample.index
        for sample in samples
        if sample.outcome is Outcome.OK and sample.output_tokens != expected[sample.index]
    ]
    if wrong:
        return "unequal", f"{len(wrong)} answers of another length than asked"
    stopped = sum(sample.error == STOPPED for sample in samples)
    missing = len(expected) - len(samples)
    if stopped or missing:
        done = len(samples) - stopped
        return "bounded", f"stopped after {done} of {len(expected)} requests"
    lost = Counter(
        f"{sample.outcome}: {sample.error}" for sample in samples if sample.outcome in _LOST
    )
    if lost:
        return "errors", ", ".join(f"{count} {what}" for what, count in sorted(lost.items()))
    return ("invalid", fault) if fault else ("whole", "")


def _length(samples: Sequence[Sample]) -> float:
    """Seconds from the first request to the last sign of any."""
    begin = min((sample.scheduled for sample in samples), default=0.0)
    return max((sample.end for sample in samples if sample.end is not None), default=begin) - begin


def _measures(samples: Sequence[Sample], seconds: float) -> Mapping[str, float]:
    served = [s for s in samples if s.outcome is Outcome.OK or _left(s)]
    good = [s for s in served if s.ttft is not None and s.ttft <= GOOD_TTFT]
    tokens = sum(s.output_tokens or 0 for s in served)
    found = {
        "requests_per_second": len(served) / seconds,
        "good_per_second": len(good) / seconds,
        "tokens_per_second": tokens / seconds,
        **_times(samples, seconds),
    }
    kinds = sorted({s.kind for s in samples if s.kind is not None})
    for kind in kinds:
        times = _times([s for s in samples if s.kind == kind], seconds)
        found |= {f"{name}:{kind}": value for name, value in times.items()}
    return found


def _times(samples: Sequence[Sample], seconds: float) -> dict[str, float]:
    stayed = [s for s in samples if not _left(s)]
    first = [_waited(s.ttft, seconds) for s in samples if not (_left(s) and s.ttft is None)]
    whole = [_waited(s.latency if s.outcome is Outcome.OK else None, seconds) for s in stayed]
    found = {}
    for name, times in (("ttft", first), ("latency", whole)):
        for share in (50, 95, 99):
            if times:
                found[f"{name}_p{share}_ms"] = 1e3 * quantile(times, share / 100)
    return found


def _waited(time: float | None, seconds: float) -> float:
    return seconds if time is None else time


def _left(sample: Sample) -> bool:
    """Whether its client left on purpose."""
    return sample.outcome is Outcome.CANCELLED and sample.error != STOPPED
