import os
from pathlib import Path

import mlx.core as mx
import psutil
import pytest

from engine.runtime import memory
from engine.runtime.groups import own_groups
from engine.runtime.memory import Gauge, is_out_of_memory


def test_the_gauge_reads_at_most_every_half_second() -> None:
    readings = iter([100, 200, 300])
    gauge = Gauge(lambda: next(readings))
    assert [gauge.value(now) for now in (10.0, 10.2, 10.49, 10.5, 10.9, 11.0)] == [
        *[100] * 3,
        *[200] * 2,
        300,
    ]


def test_the_gauge_reads_again_after_something_was_given_back() -> None:
    readings = iter([100, 50])
    gauge = Gauge(lambda: next(readings))
    assert gauge.value(10.0) == 100
    gauge.forget()
    assert gauge.value(10.1) == 50


def test_resident_memory_is_what_the_system_says() -> None:
    ours, theirs = memory.resident_bytes(), psutil.Process().memory_info().rss
    assert ours == pytest.approx(theirs, rel=0.2)


def test_resident_memory_is_counted_in_pages(tmp_path: Path) -> None:
    statm = tmp_path / "statm"
    statm.write_text("9000 123 45 6 0 789 0\n")
    assert memory.resident_bytes(statm, "linux") == 123 * os.sysconf("SC_PAGE_SIZE")


def test_on_macos_it_is_what_mlx_holds(tmp_path: Path) -> None:
    held = mx.zeros((1024, 1024))
    mx.eval(held)
    assert memory.resident_bytes(tmp_path / "absent", "darwin") >= held.nbytes


def test_what_is_free_is_not_above_the_machine() -> None:
    assert 0 < memory.free_bytes() < psutil.virtual_memory().total


def test_a_control_group_and_those_above_it_bound_what_is_free(tmp_path: Path) -> None:
    _group(tmp_path / "slice", limit="1000", current="400", inactive_file=100)
    _group(tmp_path / "slice" / "unit", limit="max", current="1", inactive_file=0)
    _group(tmp_path / "slice" / "full", limit="500", current="600", inactive_file=0)
    membership = tmp_path / "cgroup"
    membership.write_text("0::/slice/unit\n")
    groups = own_groups(membership, tmp_path)
    assert groups == [tmp_path / "slice" / "unit", tmp_path / "slice", tmp_path]
    assert list(memory._left_in_groups(groups)) == [700]
    assert list(memory._left_in_groups([tmp_path / "slice" / "full"])) == [0]


def test_without_control_groups_there_is_no_bound(tmp_path: Path) -> None:
    groups = own_groups(tmp_path / "absent", tmp_path)
    assert list(memory._left_in_groups(groups)) == []


def _group(folder: Path, *, limit: str, current: str, inactive_file: int) -> None:
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{current}\n")
    (folder / "memory.stat").write_text(f"anon 7\ninactive_file {inactive_file}\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("std::bad_alloc"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("[malloc] Unable to allocate 123 bytes."),
        RuntimeError("[metal::malloc] Resource limit (499000) exceeded."),
        RuntimeError("[metal::malloc] Attempting to allocate 9 bytes which is greater than ..."),
        RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory (00000008:...)"),
    ],
)
def test_what_mlx_says_without_memory_is_recognised(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[matmul] Last dimension of first input does not match"),
        ValueError("the prompt says: out of memory"),
    ],
)
def test_other_errors_are_not(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_giving_back_returns_freed_memory_to_the_system() -> None:
    memory.give_back()
    before = memory.resident_bytes()
    rows = [mx.zeros((16, 1024)) + number for number in range(3000)]  # 200 MB in 64 kB pieces
    mx.eval(rows)
    held = memory.resident_bytes() - before
    survivors = rows[::300]  # as entries that stay: they keep the heap from shrinking by itself
    del rows
    memory.give_back()
    assert held > 100e6
    assert memory.resident_bytes() - before < held / 2
    assert len(survivors) == 10
