import json
from contextlib import ExitStack
from pathlib import Path

import pytest
from guard_builders import FLAG, OTHER, pending
from hypothesis import given, settings
from hypothesis import strategies as st

from gates.guarding import cli
from gates.guarding.folder import BusyError, owned, read_json, replace_json
from gates.guarding.journal import (
    JOURNAL_FILE,
    Journal,
    JournalError,
    Memory,
    acknowledged,
    after,
    braked,
    closed,
    opened,
    settled,
)


def written(folder: Path) -> Journal:
    journal = Journal.open(folder)
    journal.write(opened(pending(flags={FLAG: 3, OTHER: 5})))
    journal.write(braked("r1", ["b2", "b1"]))
    journal.write(acknowledged("r1", {FLAG: 4}))
    return journal


def test_what_was_written_is_known_to_the_next_guard(tmp_path: Path) -> None:
    journal = written(tmp_path)
    again = Journal.open(tmp_path)
    assert again.memory == journal.memory
    (each,) = again.memory.pending
    assert each == pending(flags={FLAG: 3, OTHER: 5}, brakes=("b1", "b2"), acknowledged={FLAG: 4})
    assert each.unacknowledged == (OTHER,)
    assert not again.damage


def test_brakes_are_settled_once_the_store_knows_of_every_flag(tmp_path: Path) -> None:
    journal = written(tmp_path)
    assert not journal.memory.settled
    journal.write(acknowledged("r1", {OTHER: 6}))
    assert journal.memory.settled == {"b1", "b2"}
    journal.write(braked("r1", ["b3"]))  # an engine that came back later
    journal.write(closed("r1"))
    assert Journal.open(tmp_path).memory == Memory(settled=frozenset({"b1", "b2", "b3"}))


def test_a_step_may_be_written_twice(tmp_path: Path) -> None:
    journal = written(tmp_path)
    once = journal.memory
    for step in (opened(once.pending[0]), braked("r1", ["b1"]), acknowledged("r1", {FLAG: 4})):
        journal.write(step)
    assert journal.memory == once
    journal.write(closed("r1"))
    journal.write(closed("r1"))
    assert journal.memory.pending == ()


@settings(max_examples=30)  # every step waits for the disk
@given(st.data())
def test_cut_off_anywhere_it_holds_every_whole_step_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    steps = [opened(pending()), braked("r1", ["b1"]), acknowledged("r1", {FLAG: 4}), settled(["x"])]
    journal, memories = Journal.open(folder), [Memory()]
    for step in steps:
        journal.write(step)
        memories.append(journal.memory)
    raw = (folder / JOURNAL_FILE).read_bytes()
    cut = data.draw(st.integers(0, len(raw)))
    (folder / JOURNAL_FILE).write_bytes(raw[:cut])
    again = Journal.open(folder)
    assert again.memory == memories[raw[:cut].count(b"\n")]
    again.write(settled(["y"]))
    assert Journal.open(folder).memory == again.memory


@pytest.mark.parametrize(
    "line", ["garbage", "[]", '{"step": "braked"}', '{"step": "opened", "id": "x"}', "null"]
)
def test_a_damaged_journal_is_set_aside_and_told(tmp_path: Path, line: str) -> None:
    written(tmp_path)
    path = tmp_path / JOURNAL_FILE
    path.write_text(line + "\n" + path.read_text())
    journal = Journal.open(tmp_path)
    assert journal.memory == Memory()
    assert "set aside" in journal.damage
    assert [p.name for p in tmp_path.glob("*.damaged-*")]
    journal.write(opened(pending()))
    assert Journal.open(tmp_path).memory.pending == (pending(),)


def test_an_unknown_step_is_no_step() -> None:
    memory = after(Memory(), json.loads(json.dumps(opened(pending()))))
    with pytest.raises(JournalError):
        after(memory, {"step": "dance", "id": "r1"})


def test_a_folder_has_one_guard(tmp_path: Path) -> None:
    with (
        owned(tmp_path / "guard"),
        pytest.raises(BusyError, match="another guard works here"),
        owned(tmp_path / "guard"),
    ):
        raise AssertionError
    with owned(tmp_path / "guard"):
        """The first has let go."""


def test_a_file_that_cannot_be_read_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "seen.json"
    assert read_json(path) == {}
    replace_json(path, {"generation": 3})
    assert read_json(path) == {"generation": 3}
    path.write_text("[1]")
    assert read_json(path) == {}


def test_a_second_guard_stands_by_and_takes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(owned(tmp_path))
        monkeypatch.setattr(cli.time, "sleep", lambda _: first.close())
        cli._own(tmp_path, second, waits=True)
        with pytest.raises(BusyError):
            cli._own(tmp_path, ExitStack(), waits=False)
    assert capsys.readouterr().err.count("standing by") == 1
