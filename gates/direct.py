"""Live evidence straight from the engines, while no Prometheus answers.

Somebody polls `/metrics` of every engine just before each minute's edge and gives the texts
here; the last polls are kept. What was not polled in time is not known.
"""

import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from math import ceil
from typing import Final
from urllib.parse import urlsplit

from gates.exposition import ExpositionError, Sample, Scrape, parse
from gates.live import Edge

log = logging.getLogger("phase5.live")

#: Seconds in a minute.
_MINUTE: Final = 60


class Direct:
    """A `gates.live.Source` over polls that were kept.

    Args:
        minutes: how many of the last minutes are kept.
    """

    def __init__(self, minutes: int = 60) -> None:
        self._minutes = minutes
        self._now = 0.0
        self._scrapes: dict[int, dict[str, Scrape]] = {}  # by the edge that follows, and target

    @property
    def name(self) -> str:
        """See `Source`."""
        return "engines"

    def keep(self, at: datetime, texts: Mapping[str, str]) -> None:
        """Take one round of polls.

        Args:
            at: when it was begun.
            texts: `/metrics` by the engine's URL, of those that answered. One that is not
                Prometheus's text is a target that does not tell what it is.
        """
        stamp = at.timestamp()
        edge = ceil(stamp / _MINUTE)
        # A later round stands for the edge as a whole: who is silent in it is not there any more.
        self._scrapes[edge] = {
            target: Scrape(target=target, at=stamp, samples=_samples(text, target))
            for target, text in ((urlsplit(url).netloc or url, text) for url, text in texts.items())
        }
        self._now = max(self._now, stamp)
        for old in [minute for minute in self._scrapes if minute < edge - self._minutes]:
            del self._scrapes[old]

    def now(self) -> datetime:
        """When it was polled last."""
        return datetime.fromtimestamp(self._now, UTC)

    def edges(self, first: int, last: int) -> Iterator[Edge]:
        """See `Source`."""
        for minute in range(first, last + 1):
            scrapes = self._scrapes.get(minute, {})
            yield Edge(minute=minute, scrapes=tuple(scrapes[t] for t in sorted(scrapes)))


def _samples(text: str, target: str) -> tuple[Sample, ...]:
    try:
        return parse(text, target)
    except ExpositionError as error:
        log.warning("%s", error)
        return ()
