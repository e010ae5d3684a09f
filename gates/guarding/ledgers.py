"""The ledgers of the flags at a live stage: extended minute by minute, folded as they grow.

The files are the memory: a guard that begins folds what stands in them and goes on behind the
last minute, so nothing is counted twice, and what was not seen meanwhile is read back where the
source remembers it. Decisions depend on the files alone.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from gates.guarding.sight import Sight
from gates.ledger import CLOSED_AFTER, Header, LedgerError, Row, minute_of
from gates.ledger_file import LEDGER_FOLDER, appendable, begun, name_of, read
from gates.ledger_writer import LedgerWriter
from gates.live import SourceError
from gates.live_fold import LiveFold
from gates.live_judge import folded
from gates.stages import Policy
from gates.standing import Standing

#: Gives the rows of a header's minutes, from the first to the last.
RowsOf = Callable[[Header, int, int], Iterator[Row]]

#: Makes the header of a flag's new ledger.
HeaderOf = Callable[[str, Standing], Header]

#: Minutes that are asked for at a time. A guard that begins may have a day to catch up with; in
#: between it must look after its engines.
_AT_A_TIME: Final = 120

#: How long a minute stays open after its end.
_OPEN: Final = timedelta(seconds=CLOSED_AFTER)


@dataclass(slots=True, kw_only=True)
class Watched:
    """One flag's ledger, open."""

    writer: LedgerWriter
    header: Header
    fold: LiveFold
    sight: Sight
    first: int  #: the first whole minute of its stage

    def due(self, now: datetime) -> tuple[int, int] | None:
        """The closed minutes that are not there yet, first and last; None for none."""
        last = self.writer.last
        begin = self.first if last is None else max(last + 1, self.first)
        end = min(minute_of(now - _OPEN) - 1, begin + _AT_A_TIME - 1)
        return (begin, end) if end >= begin else None

    def extend(self, rows: Iterator[Row], now: datetime) -> tuple[Row, ...]:
        """Write rows, then count them; those that were not there before."""
        fresh = tuple(appendable(rows, self.writer.last, now))
        self.writer.append(fresh, now)
        self.fold.extend(fresh)
        for row in fresh:
            self.sight = self.sight.taking(row, self.header)
        return fresh


@dataclass(slots=True)
class Ledgers:
    """Owns the open ledgers of one state folder, by flag."""

    folder: Path
    policy: Policy
    watched: dict[str, Watched] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)  #: why a flag has none

    def follow(
        self,
        standings: Mapping[str, Standing],
        header_of: HeaderOf,
        now: datetime,
    ) -> None:
        """Open the ledger of each flag's present epoch, and let go of all others.

        Args:
            standings: of the flags at a live stage.
            header_of: makes the header of a new ledger; raises EvidenceError where it cannot.
            now: where a flag's time of entering is not known, its first minute comes after this.
        """
        for flag in set(self.watched) - set(standings):
            self.watched.pop(flag).writer.close()
        self.problems = {}
        for flag, standing in standings.items():
            open_one = self.watched.get(flag)
            if open_one is not None and open_one.header.epoch != standing.epoch:
                self.watched.pop(flag).writer.close()
                open_one = None
            if open_one is None:
                self._open(flag, standing, header_of, now)

    def sights(self, standings: Mapping[str, Standing]) -> dict[str, Sight]:
        """What is known of each flag at a live stage."""
        return {
            flag: self.watched[flag].sight
            if flag in self.watched
            else Sight(
                flag=flag,
                epoch=standing.epoch,
                entered_at=standing.entered_at,
                reason=self.problems.get(flag, ""),
            )
            for flag, standing in standings.items()
        }

    @property
    def folds(self) -> dict[str, LiveFold]:
        """The state of every ledger, by flag."""
        return {flag: each.fold for flag, each in self.watched.items()}

    def path(self, flag: str) -> Path:
        """The file of a flag that is watched."""
        return self.folder / LEDGER_FOLDER / name_of(flag, self.watched[flag].header.epoch)

    def extend(self, rows_of: RowsOf, now: datetime) -> dict[str, tuple[Row, ...]]:
        """Bring every ledger up to the last closed minute; the rows that each got.

        Raises:
            SourceError: nothing is known now of some ledger's minutes, and may be known later.
                The others are up to date.
        """
        rows: dict[str, tuple[Row, ...]] = {}
        failed: list[SourceError] = []
        for flag, each in self.watched.items():
            due = each.due(now)
            try:
                rows[flag] = each.extend(rows_of(each.header, *due), now) if due else ()
            except SourceError as error:
                failed.append(error)
        if failed:
            raise failed[0]
        return rows

    def close(self) -> None:
        """Let go of all files."""
        for each in self.watched.values():
            each.writer.close()
        self.watched = {}

    def _open(self, flag: str, standing: Standing, header_of: HeaderOf, now: datetime) -> None:
        path = self.folder / LEDGER_FOLDER / name_of(flag, standing.epoch)
        try:
            known = read(path) if begun(path) else None
            header = known.header if known else header_of(flag, standing)
            if header.stage != standing.stage:
                raise LedgerError(f"{path}: of stage {header.stage}, not {standing.stage}")
            writer = LedgerWriter(self.folder / LEDGER_FOLDER, header)
        except (OSError, ValueError) as error:
            self.problems[flag] = str(error)
            return
        stage = self.policy.stages[header.stage]
        rows = known.rows if known else ()
        sight = Sight(flag=flag, epoch=standing.epoch, entered_at=standing.entered_at)
        for row in rows:
            sight = sight.taking(row, header)
        self.watched[flag] = Watched(
            writer=writer,
            header=header,
            fold=folded(known, self.policy.live, stage)
            if known
            else LiveFold.of(header, self.policy.live, stage),
            sight=replace(sight, problems=known.problems if known else ()),
            first=minute_of(standing.entered_at or now) + 1,
        )
