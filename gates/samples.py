"""The one sample format: what a client saw of one request.

All times are seconds on the generator's monotonic clock, from the start of its run.
Latencies count from the *scheduled* time, so a generator or server that falls behind
shows it (no coordinated omission). Absent is null, never zero.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Any, Final

#: Version of one row; a reader refuses any other.
SAMPLE_SCHEMA: Final = "phase5.sample/1"


class Outcome(StrEnum):
    """How a request ended, in the words of the error-rate rule.

    `error_rate` = (failed + cut) / (ok + failed + cut); the others are left out of it.
    """

    OK = "ok"  #: ended with a finish reason (and, when streaming, `[DONE]`)
    FAILED = "failed"  #: 5xx, error event, no connection, deadline, 503 without a ready replica
    CUT = "cut"  #: began, and ended without a finish reason
    SHED = "shed"  #: 429, or 503 with Retry-After while a replica is ready
    REJECTED = "rejected"  #: any other 4xx: the client's fault
    CANCELLED = "cancelled"  #: the client left on purpose, or the run ended before the answer
    DROPPED = "dropped"  #: never sent: the generator had no room for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One request of a run. Times are in seconds, on the clock of the run."""

    index: int
    arm: str  #: `treatment` or `control`
    block: int  #: the stretch of one arm that it belongs to, counted over the run
    scheduled: float
    sent: float | None
    first_token: float | None  #: first chunk with generated text, never the role chunk
    end: float | None
    outcome: Outcome
    status: int | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None  #: from usage, not from counting chunks
    cached_tokens: int | None = None  #: of the prompt, read before; from usage
    flags: str | None = None  #: the `X-Phase5-Flags` that came back
    protocol: str | None = None  #: `h1` or `h2`
    request_id: str | None = None
    error: str | None = None  #: a short reason, never prompt or output text
    longest_gap: float | None = None  #: longest wait between two pieces of generated text
    kind: str | None = None  #: the class of the request, where a workload mixes several

    @property
    def ttft(self) -> float | None:
        """Seconds from the scheduled time to the first generated text."""
        return None if self.first_token is None else self.first_token - self.scheduled

    @property
    def latency(self) -> float | None:
        """Seconds from the scheduled time to the end."""
        return None if self.end is None else self.end - self.scheduled

    @property
    def tpot(self) -> float | None:
        """Seconds for each output token after the first; None with fewer than two."""
        first, end, tokens = self.first_token, self.end, self.output_tokens
        if first is None or end is None or tokens is None or tokens <= 1:
            return None
        return (end - first) / (tokens - 1)

    @property
    def lag(self) -> float | None:
        """Seconds that the generator itself sent late."""
        return None if self.sent is None else self.sent - self.scheduled


#: What a row may hold. JSON writes whole seconds without a point.
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    **dict.fromkeys(("index", "block"), (int,)),
    **dict.fromkeys(("arm", "outcome"), (str,)),
    "scheduled": (int, float),
    **dict.fromkeys(("sent", "first_token", "end", "longest_gap"), (int, float, NoneType)),
    **dict.fromkeys(("status", "prompt_tokens", "output_tokens", "cached_tokens"), (int, NoneType)),
    **dict.fromkeys(
        ("finish_reason", "flags", "protocol", "request_id", "error", "kind"), (str, NoneType)
    ),
}
#: Fields that readers of the first rows do not know.
_YOUNG: Final = frozenset({"kind", "longest_gap", "cached_tokens"})


def to_row(sample: Sample) -> dict[str, Any]:
    """A sample as a JSON-able row.

    What is younger than the schema stands in a row only where it says something, so that
    readers from before it can read all others.
    """
    row = asdict(sample)
    return {name: value for name, value in row.items() if value is not None or name not in _YOUNG}


def from_row(row: dict[str, Any]) -> Sample:
    """Read a row back.

    Raises:
        ValueError: for an unknown, missing or malformed field; it names the field.
    """
    _check_types(row)
    try:
        return Sample(**{**row, "outcome": Outcome(row["outcome"])})
    except TypeError as error:
        raise ValueError(f"not a sample row: {error}") from error


def _check_types(row: Any) -> None:
    fields = row if isinstance(row, dict) else {}
    bad = [name for name, allowed in _TYPES.items() if not _is(fields.get(name), allowed)]
    if bad:
        raise ValueError(f"not a sample row: {bad[0]} is {fields.get(bad[0])!r}")


def _is(value: Any, allowed: tuple[type, ...]) -> bool:
    return isinstance(value, allowed) and not isinstance(value, bool)


def write_rows(path: Path, samples: Iterable[Sample]) -> int:
    """Append samples as JSON lines; returns how many."""
    count = 0
    with path.open("a", encoding="utf-8") as file:
        for sample in samples:
            file.write(json.dumps(to_row(sample), separators=(",", ":")) + "\n")
            count += 1
    return count


def read_rows(path: Path) -> Iterator[Sample]:
    """The samples of a file of JSON lines."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield from_row(json.loads(line))
