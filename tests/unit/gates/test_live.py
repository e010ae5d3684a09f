import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from told_engine import FIRST, HEADER, OFF, ON, ToldEngine

from gates.exposition import Scrape
from gates.ledger import CONTROL, TREATMENT, Row, Unit, row_line
from gates.ledger_file import name_of, text_of
from gates.ledger_fold import CRASH_MINUTES
from gates.ledger_writer import LedgerWriter
from gates.live import Edge, SourceError, best_rows, header_for, rows_between

#: Each takes a tenth of a second.
EXAMPLES = 300 if "PHASE5_FULL" in os.environ else 6

LATER = datetime.fromtimestamp((FIRST + 10_000) * 60, UTC)


@dataclass
class Remembered:
    """A source over edges that are given."""

    scrapes: Mapping[int, Sequence[Scrape]]
    name: str = "memory"
    time: datetime = LATER
    error: SourceError | None = None

    def now(self) -> datetime:
        if self.error:
            raise self.error
        return self.time

    def edges(self, first: int, last: int) -> Iterator[Edge]:
        for minute in range(first, last + 1):
            yield Edge(minute=minute, scrapes=tuple(self.scrapes.get(minute, ())))


def told(length: int, *engines: ToldEngine) -> Remembered:
    """So many minutes, in each of which every engine serves 5 treated and 20 others."""
    scrapes: dict[int, list[Scrape]] = {}
    for minute in range(length + 1):
        scrapes[FIRST + minute] = [engine.scrape(FIRST + minute) for engine in engines]
        for engine in engines:
            engine.serve(ON, 5)
            engine.serve(OFF, 20)
    return Remembered(scrapes)


def rows(source: Remembered, length: int, **more: Any) -> list[Row]:
    return list(rows_between(source, HEADER, FIRST, FIRST + length - 1, **more))


def reasons(source: Remembered, length: int, **more: Any) -> list[str]:
    return [row.invalid for row in rows(source, length, **more)]


def test_a_row_is_what_came_between_two_edges_on_all_engines() -> None:
    found = rows(told(3, ToldEngine("e1"), ToldEngine("e2")), 3, engines=2)
    assert [row.minute for row in found] == [FIRST, FIRST + 1, FIRST + 2]
    assert [row.invalid for row in found] == ["", "", ""]
    for row in found:
        assert {c.arm: c.n for c in row.counts} == {TREATMENT: 10, CONTROL: 40}
        assert (row.engines, row.commit, row.paused) == (("e1", "e2"), "c0ffee", "")


def test_a_minute_that_is_open_by_the_sources_clock_is_not_told() -> None:
    source = told(3, ToldEngine())
    source.time = datetime.fromtimestamp((FIRST + 2) * 60 + 90, UTC)
    assert len(rows(source, 3)) == 2
    source.time = datetime.fromtimestamp((FIRST + 2) * 60 + 89, UTC)
    assert len(rows(source, 3)) == 1


def test_a_gap_costs_the_minutes_on_both_sides_of_each_edge_that_lacks() -> None:
    source = told(4, ToldEngine())
    source.scrapes[FIRST + 2] = []  # type: ignore[index] # a dict, made above
    assert reasons(source, 4) == ["", "no engine answered", "e1 began within the minute", ""]


def test_an_engine_that_nobody_reads_is_missed() -> None:
    assert reasons(told(1, ToldEngine()), 1, engines=2) == ["1 of 2 engines"]
    assert reasons(told(1, ToldEngine()), 1, engines=1) == [""]


def test_a_restart_within_a_minute_makes_it_invalid_though_no_counter_fell() -> None:
    engine = ToldEngine()
    before = engine.scrape(FIRST)
    engine.wall += 30
    engine.start()
    engine.serve(ON, 50)
    source = Remembered({FIRST: [before], FIRST + 1: [engine.scrape(FIRST + 1)]})
    assert reasons(source, 1) == ["e1 began anew within the minute"]


def test_engines_of_two_builds_make_the_minute_invalid() -> None:
    source = told(1, ToldEngine("e1"), ToldEngine("e2", commit="other"))
    assert reasons(source, 1) == ["engines differ in commit: c0ffee, other"]


def test_another_epoch_within_the_minute_makes_it_invalid() -> None:
    engine = ToldEngine()
    before = engine.scrape(FIRST)
    engine.metrics.set_flag("ttft_pipeline", 20.0, 4, held=False)
    source = Remembered({FIRST: [before], FIRST + 1: [engine.scrape(FIRST + 1)]})
    assert reasons(source, 1) == ["e1 is at epoch 4 of ttft_pipeline, not 3"]


def crashing(*crashes: int) -> list[dict[str, int]]:
    """Crashes of the rows when an engine restarts its runtime so often in each minute."""
    engine, scrapes = ToldEngine(), {}
    for minute, n in enumerate([*crashes, 0]):
        scrapes[FIRST + minute] = [engine.scrape(FIRST + minute)]
        engine.restarts += n
    return [dict(row.crashes) for row in rows(Remembered(scrapes), len(crashes))]


def test_crashes_are_counted_in_their_minute() -> None:
    assert crashing(0, 2, 0) == [{}, {"e1": 2}, {}]


def test_an_engine_that_comes_back_after_a_crash_of_its_own_tells_of_it() -> None:
    engine = ToldEngine(restarts=5)
    scrapes = {FIRST: [engine.scrape(FIRST)]}
    engine.wall, engine.restarts = FIRST * 60.0 + 70, 0
    engine.start()
    engine.metrics.unclean_starts.inc()
    scrapes[FIRST + 2] = [engine.scrape(FIRST + 2)]
    assert [dict(row.crashes) for row in rows(Remembered(scrapes), 2)] == [{}, {"e1": 1}]


def test_crashes_before_the_first_minute_are_not_its_own() -> None:
    engine = ToldEngine(restarts=7)
    assert [dict(row.crashes) for row in rows(told(1, engine), 1)] == [{}]


def test_a_crash_that_nobody_saw_counts_when_the_engine_is_seen_again() -> None:
    engine = ToldEngine()
    scrapes = {FIRST: [engine.scrape(FIRST)]}
    engine.restarts = 1
    scrapes[FIRST + 3] = [engine.scrape(FIRST + 3)]
    source = Remembered(scrapes)
    assert [dict(row.crashes) for row in rows(source, 3)] == [{}, {}, {"e1": 1}]


def test_an_engine_unseen_for_longer_than_a_crash_matters_is_a_new_one() -> None:
    engine = ToldEngine()
    scrapes = {FIRST: [engine.scrape(FIRST)]}
    engine.restarts = 1
    late = CRASH_MINUTES + 1
    scrapes[FIRST + late] = [engine.scrape(FIRST + late)]
    assert not any(row.crashes for row in rows(Remembered(scrapes), late))


@lru_cache(maxsize=1)
def _many() -> tuple[tuple[Scrape, ...], ...]:
    """Edges of two engines, of which some lack, begin anew, crash, or are another build."""
    first, second = ToldEngine("e1"), ToldEngine("e2")
    edges = []
    for minute in range(FIRST, FIRST + 25):
        edges.append(
            tuple(
                engine.scrape(minute, age=40.0 if minute % 11 == 0 else 2.0)
                for engine in (first, second)
                if (minute - FIRST) % 13 != 5 or engine is first
            )
        )
        first.serve(ON, minute % 3)
        second.serve(OFF, minute % 5)
        second.wall = minute * 60.0 + 30
        first.restarts += minute % 7 == 0
        if minute % 17 == 0:
            second.start()
    return tuple(edges)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 23), st.data())
def test_the_same_minutes_give_the_same_bytes_however_they_are_asked_for(
    begin: int, data: st.DataObject
) -> None:
    source = Remembered(dict(enumerate(_many(), start=FIRST)))
    whole = {r.minute: row_line(r) for r in rows_between(source, HEADER, FIRST, FIRST + 23)}
    end = data.draw(st.integers(begin, 23))
    at = datetime.fromtimestamp((FIRST + end + 1) * 60 + data.draw(st.integers(90, 9_000)), UTC)
    asked = replace(source, time=at)
    part = [row_line(r) for r in rows_between(asked, HEADER, FIRST + begin, FIRST + end)]
    assert part == [whole[minute] for minute in range(FIRST + begin, FIRST + end + 1)]


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 500)), min_size=1, max_size=4))
def test_two_guards_that_look_whenever_they_like_write_one_ledger(
    tmp_path: Path, looks: list[tuple[bool, int]]
) -> None:
    """A look comes so many seconds after the last, and may ask again for minutes that are there."""
    source = Remembered(dict(enumerate(_many(), start=FIRST)))
    folder, time = tmp_path / str(len(list(tmp_path.iterdir()))), (FIRST + 1) * 60.0
    for asks_again, seconds in [*looks, (True, 10_000)]:
        time += seconds
        source.time = datetime.fromtimestamp(time, UTC)
        writer = LedgerWriter(folder, HEADER)
        known = FIRST - 1 if writer.last is None else writer.last
        first = max(FIRST, known - 3 if asks_again else known + 1)
        writer.append(rows_between(source, HEADER, first, FIRST + 23), source.time)
        writer.close()
    whole = rows_between(source, HEADER, FIRST, FIRST + 23)
    assert (folder / name_of(HEADER.flag, 3)).read_text() == text_of(HEADER, whole)


def test_a_held_flag_is_judged_and_does_not_soak() -> None:
    engine = ToldEngine()
    engine.metrics.set_flag("ttft_pipeline", 20.0, 3, held=True)
    (row,) = rows(told(1, engine), 1)
    assert (row.paused, row.invalid) == ("on hold", "")
    assert row.counts


def test_blocks_keep_engines_apart() -> None:
    engine = ToldEngine()
    source = told(1, engine)
    header = replace(HEADER, flag="adaptive_governor", unit=Unit.BLOCK)
    (row,) = rows_between(source, header, FIRST, FIRST)
    assert [(c.engine, c.arm, c.n) for c in row.counts] == [("e1", CONTROL, 25)]


def test_a_header_says_what_the_engines_tell() -> None:
    edge = Edge(minute=FIRST, scrapes=(ToldEngine().scrape(FIRST),))
    made = header_for(edge, flag="ttft_pipeline", epoch=3, stage="canary", share=0.2)
    assert made == HEADER
    blocks = header_for(edge, flag="adaptive_governor", epoch=3, stage="canary", share=0.2)
    assert blocks.unit is Unit.BLOCK


@pytest.mark.parametrize(
    ("engines", "reason"),
    [
        ((), "no engine told"),
        ((ToldEngine("a"), ToldEngine("b", config="other")), "engines differ in build"),
    ],
)
def test_a_header_of_no_or_different_engines_is_refused(
    engines: tuple[ToldEngine, ...], reason: str
) -> None:
    edge = Edge(minute=FIRST, scrapes=tuple(e.scrape(FIRST) for e in engines))
    with pytest.raises(SourceError, match=reason):
        header_for(edge, flag="ttft_pipeline", epoch=3, stage="canary", share=0.2)


def best(*sources: Remembered, length: int = 2) -> list[Row]:
    return list(best_rows(sources, HEADER, FIRST, FIRST + length - 1))


def test_a_minute_comes_from_the_first_source_that_has_it() -> None:
    engine = ToldEngine()
    whole = told(2, engine)
    half = Remembered({FIRST: whole.scrapes[FIRST], FIRST + 1: whole.scrapes[FIRST + 1]}, "half")
    assert [row.invalid for row in best(half, whole)] == ["", ""]
    (_, second) = best(half)
    assert second.invalid == "no engine answered"


def test_where_no_source_has_a_minute_the_reason_of_each_is_told() -> None:
    one, other = Remembered({}, "one"), Remembered({}, "other")
    (row, _) = best(one, other)
    assert row.invalid == "one: no engine answered; other: no engine answered"


def test_a_source_that_just_began_to_fail_is_waited_for() -> None:
    failing = Remembered({}, "prometheus", error=SourceError("prometheus: timed out"))
    with pytest.raises(SourceError, match="timed out"):
        best(failing, Remembered({}, "engines"))
    with pytest.raises(SourceError, match="timed out"):
        best(failing)
    assert [row.invalid for row in best(failing, told(2, ToldEngine()))] == ["", ""]


def test_a_source_that_fails_for_long_is_not() -> None:
    failing = Remembered({}, error=SourceError("prometheus: timed out", lasting=True))
    (row, _) = best(failing, Remembered({}, "engines"))
    assert row.invalid == "prometheus: timed out; engines: no engine answered"
    with pytest.raises(SourceError, match="timed out"):
        best(failing)


def test_a_minute_that_another_source_has_not_closed_yet_is_not_written_off() -> None:
    """A Prometheus that was away answers again before the engines' own minute is closed."""
    engines = told(2, ToldEngine())
    back = Remembered({FIRST: engines.scrapes[FIRST]}, "prometheus")
    engines.time = datetime.fromtimestamp((FIRST + 1) * 60, UTC)
    assert best(back, engines) == []
    engines.time = datetime.fromtimestamp((FIRST - 1) * 60, UTC)  # polled no more
    assert [bool(row.invalid) for row in best(back, engines)] == [True, True]
    engines.time = LATER
    assert [row.invalid for row in best(back, engines)] == ["", ""]


def test_a_source_that_fails_is_told_of_though_another_has_nothing_yet() -> None:
    failing = Remembered({}, error=SourceError("prometheus: timed out"))
    early = Remembered({}, time=datetime.fromtimestamp(FIRST * 60, UTC))
    with pytest.raises(SourceError, match="timed out"):
        best(failing, early)
