"""Minutes of live traffic, from wherever engines' counters can be read, as rows of a ledger.

A source tells what each engine had counted at the edges of minutes. A row is the difference of
two edges, so rows add up however the minutes were asked for, and the same minutes give the same
bytes whoever asks, and when. Whatever is doubtful makes its minute invalid, with the reason.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gates.evidence import EvidenceError
from gates.exposition import Scrape
from gates.ledger import Header, Row


class SourceError(EvidenceError):
    """A source that does not answer, or not in full; the message says which, and how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """The beginning of a minute: the last thing that each target had told by then."""

    minute: int  #: since 1970, UTC
    scrapes: tuple[Scrape, ...]


class Source(Protocol):
    """Where engines' counters can be read, now or later; always the same for the same minutes."""

    @property
    def name(self) -> str:
        """What it is, and where, as reasons state it."""

    def now(self) -> datetime:
        """Its own clock, by which minutes are closed.

        Raises:
            SourceError: it does not answer.
        """

    def edges(self, first: int, last: int) -> Iterator[Edge]:
        """The edges of minutes `first` to `last`, both with it, in order, none left out.

        Raises:
            SourceError: it does not answer, or not in full.
        """


def rows_between(
    source: Source, header: Header, first: int, last: int, *, engines: int = 0
) -> Iterator[Row]:
    """The rows of minutes `first` to `last`, both with it, as far as they are closed.

    Args:
        source: where to read.
        header: of the ledger: a minute measured otherwise is invalid.
        first: minutes since 1970, UTC.
        last: as `first`.
        engines: how many there are at least, so that one that nobody reads is missed; 0: unknown.

    Raises:
        SourceError: it does not answer, or not in full.
    """
    raise NotImplementedError


def best_rows(
    sources: Sequence[Source], header: Header, first: int, last: int, *, engines: int = 0
) -> Iterator[Row]:
    """As `rows_between`, each row from the first source that has a valid one for its minute.

    Where none has, the row is invalid and has the reason of each.

    Raises:
        SourceError: no source answers at all; nothing is known, and may be known later.
    """
    raise NotImplementedError


def header_for(edge: Edge, *, flag: str, epoch: int, stage: str, share: float) -> Header:
    """The header of a new ledger: what the engines tell at an edge of their build and buckets.

    Args:
        edge: at which all engines run what is to be measured.
        flag: of the ledger.
        epoch: as in the store.
        stage: as in the store.
        share: that is configured, 0 to 1, less the hold-back.

    Raises:
        SourceError: no engine is there, or they differ in build, configuration or buckets.
    """
    raise NotImplementedError
