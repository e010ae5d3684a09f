"""What drills and experiments ask of whoever sends requests for them.

They never send themselves: a load generator runs in a process of its own, and which one that
is, is not their affair.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from gates.samples import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Clients of one kind; every request has so many `words` and asks for exactly so many `tokens`.

    Either `rate` requests a second, due whatever became of those before, or `streams` at once,
    each asked for once.

    Raises:
        ValueError: neither a rate nor streams, or both.
    """

    name: str
    rate: float = 0.0
    streams: int = 0
    protocol: Literal["http1", "http2"] = "http1"
    words: int = 8
    tokens: int = 8
    timeout: float = 30.0  #: seconds that one request may take before it has failed

    def __post_init__(self) -> None:
        """Refuse a flow of nothing, or of both."""
        if (self.rate > 0) == (self.streams > 0):
            raise ValueError(
                f"flow {self.name!r}: rate {self.rate:g}, streams {self.streams}; allowed: one"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What came of a flow. Times of the samples are of this machine's monotonic clock."""

    samples: tuple[Sample, ...]
    trouble: str = ""  #: why the sender itself was not up to it


class Running(Protocol):
    """A flow under way."""

    def sent(self) -> int:
        """Requests that were sent so far, as of a second ago."""

    def wait(self) -> Brought:
        """Let it run to its end."""

    def stop(self) -> Brought:
        """End it now; requests that are open then count as cancelled by the client."""


class Traffic(Protocol):
    """Sends flows, several at a time."""

    def start(self, flow: Flow, *, url: str, model: str, seconds: float, seed: int) -> Running:
        """Begin a flow to a base URL; one of a rate lasts so many seconds."""
