"""Live evidence from a Prometheus server, over its HTTP API.

Raw counters at the edges of minutes are asked for, never rates: they can be read back later, and
a rate hides a counter that began anew.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gates.live import Edge


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to get in. Secrets are never here, only the names of the variables that hold them."""

    token: str = "PHASE5_PROMETHEUS_TOKEN"  # noqa: S105 - the name of a variable
    user: str = "PHASE5_PROMETHEUS_USER"
    password: str = "PHASE5_PROMETHEUS_PASSWORD"  # noqa: S105 - the name of a variable
    ca: Path | None = None  #: certificates to trust, in place of the system's
    timeout: float = 10.0  #: seconds for one answer


class Prometheus:
    """A `gates.live.Source`.

    Args:
        url: base URL of the server.
        access: how to get in.
        match: further label matchers, such as `job="engines"`, where it scrapes others as well.
    """

    def __init__(self, url: str, access: Access | None = None, match: str = "") -> None:
        raise NotImplementedError

    @property
    def name(self) -> str:
        """See `Source`."""
        raise NotImplementedError

    def now(self) -> datetime:
        """The server's clock."""
        raise NotImplementedError

    def edges(self, first: int, last: int) -> Iterator[Edge]:
        """See `Source`."""
        raise NotImplementedError
