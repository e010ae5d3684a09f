"""Where the guard's evidence comes from: Prometheus first, then the engines themselves.

The engines' own counters are read just before every minute's edge whether or not a Prometheus is
there, so that a minute that Prometheus cannot tell of is not lost.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from gates.direct import Direct
from gates.ledger import Header, Row, minute_of
from gates.live import Edge, Source, SourceError, best_rows, header_for
from gates.stages import FULL
from gates.standing import Standing

#: Seconds before a minute's edge at which engines are read: all of them answer within it, and
#: what ends in it counts for the next minute.
LEAD: Final = 2.0


class Minutes(Protocol):
    """What the guard asks for: the header of a new ledger, and the rows of its minutes."""

    def rows(self, header: Header, first: int, last: int) -> Iterator[Row]:
        """The rows of closed minutes, as far as they are known. Raises SourceError."""

    def header(self, flag: str, standing: Standing, now: datetime) -> Header:
        """What is measured of a flag now. Raises SourceError."""


@dataclass(slots=True)
class Evidence:
    """Owns the sources, best first. `Minutes` of live traffic."""

    direct: Direct
    sources: Sequence[Source]
    engines: int = 0  #: how many there must be
    holdback: Mapping[str, float] = field(default_factory=dict)  #: percent, by flag

    def rows(self, header: Header, first: int, last: int) -> Iterator[Row]:
        """See `gates.live.best_rows`."""
        return best_rows(self.sources, header, first, last, engines=self.engines)

    def header(self, flag: str, standing: Standing, now: datetime) -> Header:
        """The header of a new ledger, by the last edge that a source tells of.

        Raises:
            SourceError: none tells of it.
        """
        edge = self._edge(minute_of(now))
        share = standing.percentage / 100
        if standing.stage == FULL:
            share = min(share, 1 - self.holdback.get(flag, 0.0) / 100)
        return header_for(edge, flag=flag, epoch=standing.epoch, stage=standing.stage, share=share)

    def _edge(self, minute: int) -> Edge:
        failed = []
        for source in self.sources:
            try:
                for edge in source.edges(minute, minute):
                    if edge.scrapes:
                        return edge
                failed.append(f"{source.name}: tells of no engine")
            except SourceError as error:
                failed.append(str(error))
        raise SourceError("; ".join(failed) or "there is no source")


@dataclass(frozen=True, slots=True)
class Sooner:
    """A source whose minutes close sooner: where scrapes are close together, and none comes late.

    Args:
        source: what is read. What it tells of a minute stays the same.
        seconds: by how much sooner.
    """

    source: Source
    seconds: float

    @property
    def name(self) -> str:
        """See `Source`."""
        return self.source.name

    def now(self) -> datetime:
        """See `Source`."""
        return self.source.now() + timedelta(seconds=self.seconds)

    def edges(self, first: int, last: int) -> Iterator[Edge]:
        """See `Source`."""
        return self.source.edges(first, last)


def until_sample(now: datetime) -> float:
    """Seconds until engines are read next: `LEAD` before the next minute's edge."""
    seconds = now.timestamp() % 60
    return (60 - LEAD - seconds) % 60 or 60.0
