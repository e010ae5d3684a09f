import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_builders import FIRST, HEADER, just_after, row, rows

from gates.ledger import LedgerError, Row, header_line, row_line
from gates.ledger_file import name_of, read, text_of
from gates.ledger_writer import LedgerWriter

WriterOf = Callable[[], LedgerWriter]
TOLD = rows(4)


def path(folder: Path) -> Path:
    return folder / name_of(HEADER.flag, HEADER.epoch)


def append(folder: Path, told: list[Row]) -> int:
    writer = LedgerWriter(folder, HEADER)
    try:
        return writer.append(told, just_after(told or TOLD))
    finally:
        writer.close()


def test_minutes_are_appended_once_whoever_comes_again(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "ledger"
    assert append(folder, TOLD[:2]) == 2
    assert append(folder, TOLD[:3]) == 1
    assert append(folder, TOLD) == 1
    assert path(folder).read_text() == text_of(HEADER, TOLD)


def test_the_last_minute_is_where_the_next_writer_goes_on(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, HEADER)
    assert writer.last is None
    writer.append(TOLD, just_after(TOLD))
    writer.close()
    again = LedgerWriter(tmp_path, HEADER)
    assert again.last == FIRST + 3
    again.close()


def test_an_open_minute_is_not_written(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, HEADER)
    assert writer.append(TOLD, just_after(TOLD[:2])) == 2
    writer.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.integers(0, len(text_of(HEADER, TOLD))))
def test_a_file_cut_at_any_byte_is_mended_and_continued(tmp_path: Path, size: int) -> None:
    whole = text_of(HEADER, TOLD)
    path(tmp_path).write_text(whole[:size])
    append(tmp_path, TOLD)
    assert path(tmp_path).read_text() == whole


def test_a_second_writer_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    first = LedgerWriter(tmp_path, HEADER)
    with pytest.raises(LedgerError, match="another process writes it"):
        LedgerWriter(tmp_path, HEADER)
    first.close()
    LedgerWriter(tmp_path, HEADER).close()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (header_line(replace(HEADER, commit="other")), "it is of Header"),
        (header_line(HEADER) + "garbage\n", "damaged"),
        ("garbage\n", "not a ledger's header"),
    ],
)
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, text: str, reason: str) -> None:
    path(tmp_path).write_text(text)
    with pytest.raises(LedgerError, match=reason):
        LedgerWriter(tmp_path, HEADER)
    assert path(tmp_path).read_text() == text


def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = LedgerWriter(tmp_path, HEADER)
    writer.append(TOLD[:1], just_after(TOLD))
    real = os.pwrite

    def full(file: int, content: bytes, offset: int) -> int:
        if offset > 900:
            raise OSError(28, "No space left on device")
        return real(file, content[:100], offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            writer.append(TOLD, just_after(TOLD))
    assert path(tmp_path).read_text() == text_of(HEADER, TOLD[:1])
    assert writer.append(TOLD, just_after(TOLD)) == 3
    writer.close()
    assert path(tmp_path).read_text() == text_of(HEADER, TOLD)


def _write_for_ever(folder: Path, ready: Any) -> None:
    writer = LedgerWriter(folder, HEADER)
    ready.set()
    minute = 0 if writer.last is None else writer.last - FIRST + 1
    while True:
        writer.append([row(minute)], just_after([row(minute)]))
        minute += 1


def test_a_writer_killed_at_random_loses_no_minute_and_repeats_none(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for number in range(20 if "PHASE5_FULL" in os.environ else 6):
        ready = context.Event()
        writer = context.Process(target=_write_for_ever, args=(tmp_path, ready))
        writer.start()
        assert ready.wait(30)
        target = 2_000 * (number + 1)
        while path(tmp_path).stat().st_size < target:
            pass
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
        ledger = read(path(tmp_path))
        assert not ledger.problems
        assert [r.minute for r in ledger.rows] == list(range(FIRST, FIRST + len(ledger.rows)))
    assert len(ledger.rows) > 4
    assert row_line(ledger.rows[0]) == row_line(row(0))
