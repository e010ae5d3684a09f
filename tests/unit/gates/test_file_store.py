import json
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from gate_builders import policy
from store_builders import GOVERNOR, HTTP2, MINIMAL, QOS, at, file_store, names, record, step

from gates.durable import locked
from gates.file_store import LOCK_FILE, FileStore
from gates.history import HISTORY_FILE
from gates.stages import OFF, UNMANAGED, Event
from gates.store import ConflictError, LockedError, StoreError


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    written = step(store, Event.PROMOTE, HTTP2)
    assert written == store.read()
    assert (written.generation, written.flags[HTTP2].stage) == (1, "canary")
    assert written.where == f"file:{tmp_path}/runtime.yaml"


def test_every_change_raises_the_generation_and_is_recorded(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    for event in (Event.PROMOTE, Event.HOLD, Event.RESUME, Event.ROLLBACK, Event.CLEAR):
        step(store, event)
    history = store.history()
    assert [r.event for r in history.records] == ["promote", "hold", "resume", "rollback", "clear"]
    assert [r.generation for r in history.records] == [1, 2, 3, 4, 5]
    assert (history.problems, history.unfinished, store.read().generation) == ((), (), 5)
    assert names(tmp_path) == ["rollout", "runtime.yaml"]


def test_moving_one_flag_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    before = store.read().flags
    after = step(store, Event.PROMOTE, HTTP2).flags
    assert {name for name in before if before[name] != after[name]} == {HTTP2}


def test_nothing_to_change_writes_nothing(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    text = (tmp_path / "runtime.yaml").read_bytes()
    assert step(store, Event.ROLLBACK, HTTP2).generation == 0
    assert (tmp_path / "runtime.yaml").read_bytes() == text
    assert not (tmp_path / HISTORY_FILE).exists()


def test_of_two_who_decided_on_one_generation_the_second_is_refused(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    seen = store.read()
    step(store, Event.ROLLBACK, before=seen)
    with pytest.raises(ConflictError, match="decided on generation 0, found generation 1"):
        step(store, Event.PROMOTE, before=seen)
    assert store.read().flags[GOVERNOR].stage == OFF
    assert store.history().problems == ()


def test_an_edit_by_hand_in_between_is_a_conflict_too(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    seen = store.read()
    (tmp_path / "runtime.yaml").write_text(MINIMAL.replace("sample_rate: 10", "sample_rate: 5"))
    with pytest.raises(ConflictError, match="found generation 0 with another text: it was edited"):
        step(store, Event.PROMOTE, before=seen)
    assert step(store, Event.PROMOTE).config.phase4_rollout.qos_monitoring.sample_rate == 5


def test_a_file_that_broke_in_between_is_a_conflict(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    seen = store.read()
    (tmp_path / "runtime.yaml").write_text("generation: [")
    with pytest.raises(ConflictError, match="found no valid configuration"):
        step(store, Event.ROLLBACK, before=seen)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"generation: [", "not YAML"),
        (b"", "empty"),
        (b"\xff\xfe", "not UTF-8"),
        (b"speed: 3", "unknown key"),
        (None, "No such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    store = file_store(tmp_path)
    path = tmp_path / "runtime.yaml"
    path.unlink() if content is None else path.write_bytes(content)
    for reading in (store.read, store.history):
        with pytest.raises(StoreError, match=f"{path}.*{message}"):
            reading()


def test_a_lock_that_another_holds_is_an_error_of_its_own(tmp_path: Path) -> None:
    store = file_store(tmp_path, lock_seconds=0)
    with locked(tmp_path / LOCK_FILE, 0):
        with pytest.raises(LockedError, match=f"{LOCK_FILE}: held by process {os.getpid()}"):
            step(store, Event.ROLLBACK)
        assert store.read().generation == 0
        assert store.history().problems == ()
    assert step(store, Event.ROLLBACK).flags[GOVERNOR].stage == OFF


def test_every_path_to_the_file_is_the_same_store(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "link.yaml").symlink_to(tmp_path / "runtime.yaml")
    linked = FileStore(other / "link.yaml", policy())
    step(linked, Event.PROMOTE)
    step(store, Event.PROMOTE)
    assert len(linked.history().records) == 2
    assert (linked.history().problems, names(other)) == ((), ["link.yaml"])


def test_two_files_in_one_folder_are_two_stores(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    (tmp_path / "other.yaml").write_text(MINIMAL)
    other = FileStore(tmp_path / "other.yaml", policy())
    step(store, Event.PROMOTE)
    step(other, Event.ROLLBACK)
    step(store, Event.PROMOTE)
    assert [r.event for r in store.history().records] == ["promote", "promote"]
    assert [r.event for r in other.history().records] == ["rollback"]
    assert store.history().problems == other.history().problems == ()


def test_without_its_history_a_flag_is_rolled_back_all_the_same(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    step(store, Event.PROMOTE)
    (tmp_path / HISTORY_FILE).unlink()
    assert store.history().problems
    assert step(store, Event.ROLLBACK).flags[GOVERNOR].stage == OFF
    assert store.history().problems  # what was lost is not made up


def test_a_history_that_cannot_be_written_stops_a_promotion_but_no_rollback(
    tmp_path: Path,
) -> None:
    store = file_store(tmp_path)
    step(store, Event.PROMOTE)
    history = tmp_path / HISTORY_FILE
    history.unlink()
    history.mkdir()
    with pytest.raises(StoreError, match=r"history.jsonl: cannot be written: Is a directory"):
        step(store, Event.PROMOTE)
    assert store.read().generation == 1
    after = step(store, Event.ROLLBACK)
    assert (after.generation, after.flags[GOVERNOR].stage) == (2, OFF)
    assert "history.jsonl: cannot be written" in after.unrecorded
    assert any("cannot be read: Is a directory" in p for p in store.history().problems)


def test_a_rollback_that_was_not_recorded_shows_in_the_history(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    step(store, Event.PROMOTE)
    history, aside = tmp_path / HISTORY_FILE, tmp_path / "aside"
    history.rename(aside)
    history.mkdir()
    step(store, Event.ROLLBACK)
    history.rmdir()
    aside.rename(history)
    assert store.history().problems == (
        "behind generation 1, the store is at generation 2: a change was not recorded",
    )


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """A disk that is full, for files that would grow beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_stops_a_promotion_but_no_rollback_and_leaves_everything_readable(
    tmp_path: Path,
) -> None:
    store = file_store(tmp_path)
    for event in (Event.HOLD, Event.RESUME, Event.PROMOTE):
        step(store, event)
    history = tmp_path / HISTORY_FILE
    before = store.read()
    with files_at_most(history.stat().st_size + 10):
        with pytest.raises(StoreError, match=r"history.jsonl: cannot be written: File too large"):
            step(store, Event.PROMOTE)
        assert store.read() == before
        after = step(store, Event.ROLLBACK)
    assert "File too large" in after.unrecorded
    assert store.read().flags[GOVERNOR].stage == OFF
    assert [r.event for r in store.history().records] == ["hold", "resume", "promote"]
    assert store.history().torn == (4,)
    step(store, Event.CLEAR)
    assert [r.event for r in store.history().records] == ["hold", "resume", "promote", "clear"]
    assert store.history().problems == (
        "behind generation 3, generation 5: a change was not recorded",
    )


def test_a_disk_that_is_full_for_the_file_itself_changes_nothing(tmp_path: Path) -> None:
    text = MINIMAL + "# " + "long " * 1000 + "\n"
    store = file_store(tmp_path, text)
    before = store.read()
    with files_at_most(4000), pytest.raises(StoreError, match=r"runtime.yaml: cannot be written"):
        step(store, Event.ROLLBACK)
    assert store.read() == before
    assert [r.event for r in store.history().unfinished] == ["rollback"]
    assert step(store, Event.ROLLBACK).flags[GOVERNOR].stage == OFF
    assert store.history().problems == ()


def test_a_damaged_history_takes_further_records_and_stays_damaged(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    for _ in range(2):
        step(store, Event.PROMOTE)
    history = tmp_path / HISTORY_FILE
    history.write_text(history.read_text().replace("a test", "nobody"))
    damaged = history.read_bytes()
    step(store, Event.ROLLBACK)
    assert history.read_bytes().startswith(damaged)
    assert json.loads(history.read_text().splitlines()[-1])["event"] == "rollback"
    assert store.history().problems


def test_a_flag_that_a_hand_moved_is_unmanaged_and_comes_back_by_a_rollback(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    step(store, Event.PROMOTE)
    path = tmp_path / "runtime.yaml"
    path.write_text(path.read_text().replace("rollout_percentage: 10 ", "rollout_percentage: 50 "))
    assert store.read().flags[GOVERNOR].stage == UNMANAGED
    path.write_text(path.read_text().replace('"early"', "mid"))
    assert store.read().flags[GOVERNOR].stage == UNMANAGED
    assert store.read().flags[QOS].stage == "full"
    assert step(store, Event.ROLLBACK).flags[GOVERNOR].stage == OFF
    assert store.history().problems == ()


def test_a_file_that_changes_while_its_history_is_read_is_read_again(tmp_path: Path) -> None:
    """Readers take no lock, and still see configuration and history of one moment."""
    store, reader = file_store(tmp_path), FileStore(tmp_path / "runtime.yaml", policy())
    done = threading.Event()

    def write() -> None:
        for _ in range(8):
            step(store, Event.HOLD)
            step(store, Event.RESUME)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    readings = 0
    while not done.is_set():
        assert reader.history().problems == ()
        readings += 1
    writer.join()
    assert readings
    assert len(reader.history().records) == 16


def test_a_standing_that_does_not_fit_writes_nothing(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    before = store.read()
    with pytest.raises(StoreError, match="would not stand"):
        store.write(before, {GOVERNOR: at("mid", percentage=49)}, record(Event.PROMOTE))
    assert store.read() == before
    assert not (tmp_path / HISTORY_FILE).exists()


def test_a_text_that_cannot_be_changed_alone_is_named(tmp_path: Path) -> None:
    text = "phase4_rollout:\n  adaptive_governor: &one {enabled: false}\n  http2_transport: *one\n"
    store = file_store(tmp_path, text)
    with pytest.raises(StoreError, match=r"file:.*cannot write adaptive_governor.*aliases"):
        step(store, Event.PROMOTE)


def test_an_old_snapshot_is_refused_also_when_only_its_text_differs(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    forged = replace(store.read(), text="generation: 0\n")
    with pytest.raises(ConflictError):
        step(store, Event.PROMOTE, before=forged)
