"""When a growing load has found the server's limit: the rule, pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final

from gates.samples import Outcome, Sample

#: Failed or cut requests, of those that count, beyond which a step has failed.
ERROR_LIMIT: Final = 0.01
#: Share of the offered requests that must be answered well for a step to hold.
GOODPUT_SHARE: Final = 0.95
_ERRORS: Final = frozenset({Outcome.FAILED, Outcome.CUT})
_COUNTED: Final = _ERRORS | {Outcome.OK}


def offered_of(samples: Iterable[Sample], ttft: float | None) -> list[Sample]:
    """The requests of which a good answer within `ttft` seconds may be demanded.

    A client that left on purpose is none of them, unless it had waited longer than that
    without any text.
    """
    return [s for s in samples if s.outcome is not Outcome.CANCELLED or _gave_up(s, ttft)]


def _gave_up(left: Sample, ttft: float | None) -> bool:
    waited = left.latency if left.ttft is None else left.ttft
    return ttft is not None and waited is not None and waited > ttft


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRule:
    """The first step that fails is the last one.

    A step fails when its goodput falls below `goodput_share` of the offered requests, or
    its errors exceed `error_limit`. Good is a request that ended `ok`, within `ttft` and
    `latency` seconds from its scheduled time where those are given; a shed one is not good.
    Clients that left on purpose were not offered, but for those that had waited for their
    first token beyond `ttft`: such a wait counts however it ended. Blocks before `first` only
    warm up: nothing is decided on them, and they go on into the first step without a pause.

    Raises:
        ValueError: for a share that is not between 0 and 1, or a time that is not positive.
    """

    goodput_share: float = GOODPUT_SHARE
    error_limit: float = ERROR_LIMIT
    ttft: float | None = None
    latency: float | None = None
    first: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be compared with."""
        for name in ("goodput_share", "error_limit"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"stop rule: {name} {getattr(self, name)}; allowed: 0 to 1")
        for name in ("ttft", "latency"):
            value = getattr(self, name)
            if value is not None and not (isfinite(value) and value > 0):
                raise ValueError(f"stop rule: {name} {value}; allowed: more than zero")

        if self.first < 0:
            raise ValueError(f"stop rule: first {self.first}; allowed: 0 or more")

    def broken(self, step: Sequence[Sample]) -> str | None:
        """Why a step's requests are beyond the limit, with both numbers; None if they hold.

        Args:
            step: the samples of the whole step; one that has not ended must not be left out.
        """
        offered = offered_of(step, self.ttft)
        if not offered:
            return None
        counted = [sample for sample in offered if sample.outcome in _COUNTED]
        errors = sum(sample.outcome in _ERRORS for sample in counted)
        if errors > self.error_limit * len(counted):
            return f"errors {errors / len(counted):.2%} > {self.error_limit:.2%} (n={len(counted)})"
        good = sum(self.is_good(sample) for sample in offered) / len(offered)
        if good < self.goodput_share:
            return f"goodput {good:.2%} < {self.goodput_share:.2%} of offered (n={len(offered)})"
        return None

    def is_good(self, sample: Sample) -> bool:
        """Whether a request was answered whole and in time."""
        within = ((self.ttft, sample.ttft), (self.latency, sample.latency))
        return sample.outcome is Outcome.OK and all(
            limit is None or (value is not None and value <= limit) for limit, value in within
        )
