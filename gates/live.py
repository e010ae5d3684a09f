"""Minutes of live traffic, from wherever engines' counters can be read, as rows of a ledger.

A source tells what each engine had counted at the edges of minutes. A row is the difference of
two edges, so rows add up however the minutes were asked for, and the same minutes give the same
bytes whoever asks, and when. Whatever is doubtful makes its minute invalid, with the reason.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from engine.core.flags import ADAPTIVE_GOVERNOR
from gates.closing import closed, crashes_since
from gates.evidence import EvidenceError
from gates.exposition import Scrape
from gates.ledger import Header, Row, Unit, is_closed, minute_of
from gates.ledger_fold import CRASH_MINUTES, clock
from gates.readings import Asked, Seen, seen
from gates.told import DoubtError, Told


class SourceError(EvidenceError):
    """A source that does not answer, or not in full; the message says which, and how.

    `lasting`: it has failed for so long that nobody waits for it.
    """

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


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
    now = source.now()
    while last >= first and not is_closed(last, now):
        last -= 1
    if last < first:
        return
    asked = asked_of(header)
    window: deque[Seen] = deque(maxlen=CRASH_MINUTES)  # what was seen before this edge
    # Crashes are counted since an engine was seen last. To look so far back at every minute, and
    # no further, makes a row the same wherever the first minute lies.
    for edge in source.edges(first - CRASH_MINUTES + 1, last + 1):
        after = seen(edge.minute, edge.scrapes, asked)
        if edge.minute > first:
            yield _row(edge.minute - 1, window, after, header, engines)
        window.append(after)


def best_rows(
    sources: Sequence[Source], header: Header, first: int, last: int, *, engines: int = 0
) -> Iterator[Row]:
    """As `rows_between`, each row from the first source that has a valid one for its minute.

    Where none has, the row is invalid and has the reason of each. Nothing is written about a
    minute that some source may yet tell of: one that has just begun to fail, or that answers and
    has not closed the minute, as engines that are polled close theirs after a Prometheus does.

    Raises:
        SourceError: no source has a minute, and one that fails may yet tell of it.
    """
    answers: list[tuple[Source, dict[int, Row]]] = []
    failures: list[SourceError] = []
    for source in sources:
        try:
            rows = rows_between(source, header, first, last, engines=engines)
            answers.append((source, {row.minute: row for row in rows}))
        except SourceError as error:
            failures.append(error)
    hoped = next((error for error in failures if not error.lasting), None)
    closed_minutes = answers[0][1] if answers else {}
    if failures and not closed_minutes and (hoped or not answers):
        raise hoped or failures[0]
    for minute in sorted(closed_minutes):
        rows_of = [(source.name, rows[minute]) for source, rows in answers if minute in rows]
        valid = next((row for _, row in rows_of if not row.invalid), None)
        if valid is None and hoped:
            raise hoped
        if valid is None and any(_begun(s, minute) for s, rows in answers if minute not in rows):
            return
        yield valid or _none_valid(rows_of, failures)


def _begun(source: Source, minute: int) -> bool:
    """Whether a source has come so far; one that nobody asks any more never tells of it."""
    return minute_of(source.now()) >= minute


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
    told = [Told(scrape) for scrape in edge.scrapes]
    try:
        found = {(t.build.get("commit"), t.build.get("config_sha256"), t.edges) for t in told}
    except DoubtError as error:
        raise SourceError(str(error)) from error
    if len(found) != 1:
        what = "engines differ in build, configuration or buckets" if found else "no engine told"
        raise SourceError(f"{clock(edge.minute)}: {what}")
    commit, config_sha256, (ttft_edges, latency_edges) = found.pop()
    return Header(
        flag=flag,
        epoch=epoch,
        stage=stage,
        share=share,
        # The governor acts on a whole engine, so blocks of time are assigned to it.
        unit=Unit.BLOCK if flag == ADAPTIVE_GOVERNOR else Unit.KEY,
        commit=commit or "",
        config_sha256=config_sha256 or "",
        ttft_edges=ttft_edges,
        latency_edges=latency_edges,
    )


def asked_of(header: Header) -> Asked:
    """What a ledger asks of engines."""
    return Asked(
        flag=header.flag,
        epoch=header.epoch,
        share=header.share,
        edges=(header.ttft_edges, header.latency_edges),
    )


def _row(minute: int, window: Sequence[Seen], after: Seen, header: Header, engines: int) -> Row:
    before = window[-1]
    row = closed(minute, before.readings, after.readings, by_block=header.unit is Unit.BLOCK)
    few = f"{len(after.readings)} of {engines} engines" if len(after.readings) < engines else ""
    reason = "; ".join(dict.fromkeys(filter(None, (*before.doubts, *after.doubts, few))))
    if reason and not row.invalid:
        row = replace(row, counts=(), cells={})
    return replace(
        row,
        crashes=_crashes(window, after),
        invalid=row.invalid if not reason else "; ".join(filter(None, (reason, row.invalid))),
        paused="on hold" if before.held or after.held else "",
    )


def _crashes(window: Sequence[Seen], after: Seen) -> dict[str, int]:
    """Crashes of each engine since it was seen last."""
    found = {}
    for engine, now in sorted(after.lives.items()):
        last = next((s.lives[engine] for s in reversed(window) if engine in s.lives), None)
        if last is not None and (n := crashes_since(last, now)) > 0:
            found[engine] = n
    return found


def _none_valid(rows: Sequence[tuple[str, Row]], failures: Sequence[SourceError]) -> Row:
    """The first source's row, with the reasons of all."""
    if len(rows) == 1 and not failures:
        return rows[0][1]
    reasons = [f"{name}: {row.invalid}" for name, row in rows]
    return replace(rows[0][1], invalid="; ".join([*map(str, failures), *reasons]))
