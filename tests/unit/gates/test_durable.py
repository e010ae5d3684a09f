import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from store_builders import names

from gates.durable import LockHeldError, append_to_file, locked, replace_file, write_file


def test_a_file_is_replaced_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "runtime.yaml"
    path.write_text("old")
    path.chmod(0o640)
    replace_file(path, b"new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert names(tmp_path) == ["runtime.yaml"]


def test_the_owner_stays(tmp_path: Path) -> None:
    path = tmp_path / "runtime.yaml"
    path.write_text("old")
    if os.geteuid() == 0:  # nobody else gives files away
        os.chown(path, 1234, 2345)
    before = path.stat()
    replace_file(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (before.st_uid, before.st_gid)


@contextmanager
def watched() -> Iterator[list[str]]:
    """The calls of the system, by name, that what is inside makes."""
    calls: list[str] = []

    def watch(_: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and getattr(function, "__module__", "") in {"posix", "fcntl"}:
            calls.append(function.__name__)

    sys.setprofile(watch)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def test_bytes_are_on_the_disk_before_their_name_and_the_name_before_the_end(
    tmp_path: Path,
) -> None:
    """A power cut in between leaves the old bytes under the name, or the new ones."""
    path = tmp_path / "runtime.yaml"
    path.write_text("old")
    with watched() as calls:
        replace_file(path, b"new")
    order = [name for name in calls if name in {"write", "fsync", "fcntl", "replace", "rename"}]
    assert [*dict.fromkeys(order)][:1] == ["write"]
    assert order[1:] in (["fsync", "replace", "fsync"], ["fcntl", "replace", "fsync"])


def test_what_was_appended_and_the_file_that_was_made_for_it_are_on_the_disk(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rollout" / "history.jsonl"
    with watched() as calls:
        append_to_file(path, b"one\n")
    order = [name for name in calls if name in {"write", "fsync", "fcntl"}]
    assert order[0] == "write"
    assert len(order) == 4  # the file, its folder, and the folder that this one was made in


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_made_or_replaced_wholly_and_the_disk_is_waited_for_where_that_is_asked(
    tmp_path: Path, *, durable: bool
) -> None:
    path = tmp_path / "engines.json"
    write_file(path, b"a longer old text")
    with watched() as calls:
        write_file(path, b"new", durable=durable)
    assert path.read_bytes() == b"new"
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    order = [name for name in calls if name in {"fsync", "fcntl", "replace", "rename"}]
    assert order in (
        [["fsync", "replace", "fsync"], ["fcntl", "replace", "fsync"]] if durable else [["replace"]]
    )


def test_links_are_followed_and_stay(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = tmp_path / "real" / "runtime.yaml"
    real.write_text("old")
    (tmp_path / "folder").symlink_to("real")
    link = tmp_path / "link.yaml"
    link.symlink_to("folder/runtime.yaml")
    replace_file(link, b"new")
    assert real.read_text() == "new"
    assert link.is_symlink()
    assert names(real.parent) == ["runtime.yaml"]


def test_what_a_writer_that_died_left_behind_is_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / "runtime.yaml"
    path.write_text("old")
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / ".runtime.yaml.new").symlink_to(victim)
    replace_file(path, b"new")
    assert (path.read_text(), victim.read_text()) == ("new", "untouched")
    assert not (tmp_path / ".runtime.yaml.new").exists()


def test_a_file_that_cannot_be_replaced_stays(tmp_path: Path) -> None:
    path = tmp_path / "runtime.yaml"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_file(path, b"new")
    assert path.is_dir()


def test_a_file_grows_and_is_made_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "rollout" / "history.jsonl"
    append_to_file(path, b"one\n")
    append_to_file(path, b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_lock_that_is_held_is_named_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "rollout" / "lock"
    held = f"{path}: held by process {os.getpid()} on "
    with locked(path, 1), pytest.raises(LockHeldError, match=held), locked(path, 0):
        pytest.fail("two hold it")
    with locked(path, 0):
        pass


def test_a_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(KeyError), locked(path, 0):
        raise KeyError
    with locked(path, 0):
        pass
