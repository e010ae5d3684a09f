from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from told_engine import FIRST, FLAG, OFF, ON, ToldEngine

from engine.config import Config, load_config
from gates.exposition import Scrape
from gates.ledger_file import name_of, read
from gates.live import Edge
from gates.live_ledgers import Stay, stays, write_ledgers
from gates.stages import Transition

LEAVES = {FLAG: Transition("canary", "early")}


class Remembered:
    """A source over one engine's minutes; its clock stands just behind the last closed one."""

    name = "memory"

    def __init__(self, minutes: int) -> None:
        engine = ToldEngine()
        self.scrapes: dict[int, Scrape] = {}
        for minute in range(FIRST, FIRST + minutes + 2):
            self.scrapes[minute] = engine.scrape(minute)
            engine.serve(ON, 1)
            engine.serve(OFF, 4)
        self._now = (FIRST + minutes) * 60 + 90.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._now, UTC)

    def edges(self, first: int, last: int) -> Iterator[Edge]:
        for minute in range(first, last + 1):
            scrape = self.scrapes.get(minute)
            yield Edge(minute=minute, scrapes=(scrape,) if scrape else ())


def stay(entered: float) -> Stay:
    """Of a flag that entered canary so many minutes after the first."""
    at = datetime.fromtimestamp((FIRST + entered) * 60, UTC)
    return Stay(flag=FLAG, stage="canary", epoch=3, share=0.2, entered_at=at)


def test_a_ledger_reaches_from_the_first_whole_minute_to_the_last_closed_one(
    tmp_path: Path,
) -> None:
    assert write_ledgers(tmp_path, Remembered(6), [stay(1.5)], engines=1) == {}
    ledger = read(tmp_path / name_of(FLAG, 3))
    assert [row.minute for row in ledger.rows] == list(range(FIRST + 2, FIRST + 6))
    assert {row.invalid for row in ledger.rows} == {""}


def test_a_stage_that_was_entered_just_now_has_no_ledger(tmp_path: Path) -> None:
    without = write_ledgers(tmp_path, Remembered(6), [stay(5.9)])
    assert without == {FLAG: "no minute of ttft_pipeline at canary is over yet"}


def test_a_folder_that_cannot_be_written_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    without = write_ledgers(tmp_path / "file", Remembered(6), [stay(0)])
    assert "file" in without[FLAG]


def config(tmp_path: Path, entered: str) -> Config:
    path = tmp_path / "runtime.yaml"
    path.write_text(
        "generation: 1\nphase4_rollout:\n"
        f"  {FLAG}: {{enabled: true, rollout_percentage: 1, stage: canary, epoch: 7{entered}}}\n"
    )
    return load_config(path)


def test_flags_at_a_live_stage_have_a_stay(tmp_path: Path) -> None:
    given = config(tmp_path, ", entered_at: '2026-05-04T03:02:01+00:00'")
    steps = {**LEAVES, "http2_transport": Transition("off", "canary")}
    (found,), without = stays(given, steps)
    assert (found.flag, found.stage, found.epoch, found.share) == (FLAG, "canary", 7, 0.01)
    assert found.entered_at == datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    assert without == {}


@pytest.mark.parametrize(
    ("entered", "reason"),
    [
        ("", "the store has none"),
        (", entered_at: yesterday", "Invalid isoformat string: 'yesterday'"),
        (", entered_at: '2026-05-04T03:02:01'", "has no zone"),
    ],
)
def test_without_a_time_of_entering_there_is_no_ledger(
    tmp_path: Path, entered: str, reason: str
) -> None:
    found, without = stays(config(tmp_path, entered), LEAVES)
    assert found == []
    assert without[FLAG].startswith(f"{FLAG} has no time of entering canary: ")
    assert reason in without[FLAG]
