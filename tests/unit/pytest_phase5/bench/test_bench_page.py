"""The page of the benchmarks is what its files say, and hides nothing."""

import json
from pathlib import Path

from pytest_phase5.bench.page import page
from pytest_phase5.bench.targets import TARGETS, Target, standing

ROOT = Path(__file__).parents[4]
DOCS = ROOT / "docs"


def found_in(files: dict[str, object], text: str) -> tuple[Target, object]:
    return next(one for one in standing(files) if one[0].text == text)  # type: ignore[arg-type] # documents


def test_the_page_is_current() -> None:
    assert (DOCS / "benchmarks.md").read_text() == page(DOCS / "benchmarks"), (
        "run: python -m pytest_phase5.bench.page docs/benchmarks docs/benchmarks.md"
    )


def test_what_was_not_measured_is_named_and_never_met(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    lines = [line for line in page(tmp_path).splitlines() if "not measured" in line]
    assert len(lines) == len(TARGETS)
    assert not any("yes" in line for line in lines)


def test_a_target_that_is_missed_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    start = {"seconds": {"off": {"ready_median": 2.6, "ready_slowest": 3.0}}}
    (tmp_path / "start.json").write_text(json.dumps(start))
    (line,) = [line for line in page(tmp_path).splitlines() if "seconds to ready" in line]
    assert line.endswith("| 2.60 s (slowest 3.00) | **no** |")


def test_a_bound_itself_is_met_from_its_own_side() -> None:
    rate, wait = TARGETS[0], TARGETS[3]
    assert [rate.met(value) for value in (1.49, 1.5, 9.0)] == [False, True, True]
    assert [wait.met(value) for value in (0.1, 0.6, 0.61)] == [True, True, False]


def test_the_peer_of_a_target_is_whichever_row_was_better() -> None:
    row = {"measure": "requests_per_second", "of": "on", "to": "peer-wide", "ratio": 7, "pairs": 4}
    cell = {"name": "chat, 100 streams", "ratios": [{**row, "of": "off", "ratio": 1}, row]}
    target, found = found_in({"tiny-100": {"cells": [cell]}}, "the same, 100 streams")
    assert found == (7, "7.00, 4 rounds")
    assert target.met(7)
