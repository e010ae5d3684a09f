"""Live evidence straight from the engines, while no Prometheus answers.

Somebody polls `/metrics` of every engine just before each minute's edge and gives the texts
here; the last polls are kept. What was not polled in time is not known.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

from gates.live import Edge


class Direct:
    """A `gates.live.Source` over polls that were kept.

    Args:
        minutes: how many of the last minutes are kept.
    """

    def __init__(self, minutes: int = 60) -> None:
        raise NotImplementedError

    @property
    def name(self) -> str:
        """See `Source`."""
        raise NotImplementedError

    def keep(self, at: datetime, texts: Mapping[str, str]) -> None:
        """Take one round of polls.

        Args:
            at: when it was begun.
            texts: `/metrics` by the engine's URL, of those that answered.
        """
        raise NotImplementedError

    def now(self) -> datetime:
        """When it was polled last."""
        raise NotImplementedError

    def edges(self, first: int, last: int) -> Iterator[Edge]:
        """See `Source`."""
        raise NotImplementedError
