"""What is measured in one go: a workload at a number of streams, and how much of it. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pytest_phase5.bench.prompts import (
    CHAT,
    LENGTHS,
    MIXED,
    OVERLOAD,
    QUESTION,
    SHARED,
    STORM,
    TALKS,
    UNSHARED,
)

#: Streams of the workloads, unless told otherwise.
STREAMS: Final = {
    CHAT: (1, 8, 32, 75, 100),
    SHARED: (8,),
    UNSHARED: (8,),
    MIXED: (8,),
    TALKS: (8,),
    OVERLOAD: (32,),
    STORM: (32,),
    LENGTHS: (8,),
}
WORKLOADS: Final = tuple(STREAMS)
#: Tokens of the questions in `lengths`.
PROMPTS: Final = (40, 160, 640)
#: Of `overload`: arrivals for each request that the engine without flags gets done.
OVERLOADED: Final = 2.0
#: Requests of a round: of a fast model about so many in all and at least, and most, so many of
#: each stream, which takes it some seconds; of a slow one so many of each stream.
FAST_REQUESTS: Final = 240
FAST_LEAST: Final = 3
FAST_MOST: Final = 60
SLOW_EACH: Final = 2
#: Seconds after which a round is stopped. A healthy server needs a third.
FAST_BOUND: Final = 12.0
SLOW_BOUND: Final = 60.0
#: Of the bound of a round, the share in which requests arrive in an open loop: a queue grows long,
#: and there is time to answer it.
ARRIVING: Final = 0.3
#: Models below this size on disk are fast: a step takes them milliseconds.
FAST_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One comparison. `rate` is None in a closed loop, which all but `overload` are."""

    workload: str
    streams: int
    requests: int
    bound: float
    prompt: int = QUESTION
    rate: float | None = None

    @property
    def name(self) -> str:
        """For people."""
        prompt = f", {self.prompt} prompt tokens" if self.workload == LENGTHS else ""
        return f"{self.workload}, {self.streams} streams{prompt}"

    @property
    def warm_up(self) -> int:
        """Requests of each arm that do not count: every stream has had its turn."""
        return self.streams

    @property
    def arriving(self) -> float:
        """Seconds of arrivals, in an open loop."""
        return ARRIVING * self.bound

    @property
    def closed(self) -> bool:
        """Whether each stream waits for its answer."""
        return self.workload != OVERLOAD


def cells(
    workloads: Sequence[str], streams: Sequence[int], *, fast: bool, quick: bool = False
) -> Iterator[Cell]:
    """The comparisons, those with fewer streams first: memory only ever grows.

    Args:
        workloads: by name.
        streams: in place of those of the workloads; empty for theirs.
        fast: whether a step of the model takes milliseconds.
        quick: a tenth of the requests.
    """
    for workload in workloads:
        lengths = PROMPTS if workload == LENGTHS else (QUESTION,)
        for count in sorted(streams or STREAMS[workload]):
            for prompt in lengths:
                yield Cell(
                    workload=workload,
                    streams=count,
                    requests=_requests(count, fast=fast, quick=quick),
                    bound=FAST_BOUND if fast else SLOW_BOUND,
                    prompt=prompt,
                )


def _requests(streams: int, *, fast: bool, quick: bool) -> int:
    if not fast:
        return streams * (1 if quick else SLOW_EACH)
    wanted = FAST_REQUESTS // (10 if quick else 1)
    least = 1 if quick else FAST_LEAST
    return streams * min(FAST_MOST, max(least, wanted // streams))
