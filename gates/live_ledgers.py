"""Ledgers made in one go, from the minute after a flag entered its stage up to now.

What a guard writes minute by minute a gate can write at once, from the same source, with the same
rows: neither needs the other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from engine.config import Config
from gates.evidence import EvidenceError
from gates.ledger import Header, LedgerError, minute_of
from gates.ledger_writer import LedgerWriter
from gates.live import Source, SourceError, header_for, rows_between
from gates.stages import OFF, Transition


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """A flag at a live stage, as the store has it."""

    flag: str
    stage: str
    epoch: int
    share: float  #: 0 to 1, less the hold-back
    entered_at: datetime

    @property
    def first(self) -> int:
        """The first minute that lies in the stage as a whole."""
        return minute_of(self.entered_at) + 1


def stays(config: Config, steps: Mapping[str, Transition]) -> tuple[list[Stay], dict[str, str]]:
    """The flags of a gate that stand at a live stage, and why one of them has no ledger."""
    found: list[Stay] = []
    without: dict[str, str] = {}
    for flag, step in steps.items():
        if step.origin == OFF:
            continue
        state = config.phase4_rollout.flag(flag)
        try:
            entered = _moment(state.entered_at)
        except ValueError as error:
            without[flag] = f"{flag} has no time of entering {step.origin}: {error}"
            continue
        found.append(
            Stay(
                flag=flag,
                stage=step.origin,
                epoch=state.epoch,
                share=state.percentage / 100,
                entered_at=entered,
            )
        )
    return found, without


def write_ledgers(
    folder: Path, source: Source, wanted: Iterable[Stay], *, engines: int = 0
) -> dict[str, str]:
    """Write the ledger of each flag into a folder; why there is none, by flag.

    Args:
        folder: of the ledgers; none of these flags and epochs stands there yet.
        source: of every minute since the stage was entered.
        wanted: the flags.
        engines: how many there are at least; 0: unknown.
    """
    without = {}
    for stay in wanted:
        try:
            _write(folder, source, stay, engines)
        except (EvidenceError, OSError) as error:
            without[stay.flag] = str(error)
    return without


def _write(folder: Path, source: Source, stay: Stay, engines: int) -> None:
    now = source.now()
    header = _header(source, stay, minute_of(now))
    writer = LedgerWriter(folder, header)
    try:
        rows = rows_between(source, header, stay.first, minute_of(now), engines=engines)
        if not writer.append(rows, now):
            raise LedgerError(f"no minute of {stay.flag} at {stay.stage} is over yet")
    finally:
        writer.close()


def _header(source: Source, stay: Stay, minute: int) -> Header:
    """By what runs now: a candidate is promoted on what it showed itself."""
    for edge in source.edges(minute, minute):
        return header_for(
            edge, flag=stay.flag, epoch=stay.epoch, stage=stay.stage, share=stay.share
        )
    raise SourceError(f"{source.name}: tells nothing of the present minute")


def _moment(text: str | None) -> datetime:
    if not text:
        raise ValueError("the store has none")
    moment = datetime.fromisoformat(text)
    if moment.utcoffset() is None:
        raise ValueError(f"{text!r} has no zone")
    return moment
