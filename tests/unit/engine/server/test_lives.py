from pathlib import Path

import pytest

from engine.server import lives
from engine.server.lives import Life


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "e1.serving"


def test_the_first_life_follows_no_crash(marker: Path) -> None:
    assert not Life(marker).unclean


def test_an_engine_that_was_told_to_stop_leaves_nothing(marker: Path) -> None:
    life = Life(marker)
    life.begin()
    assert marker.exists()
    life.end()
    assert not Life(marker).unclean


def test_an_engine_that_ended_untold_is_noticed_by_the_next_once(marker: Path) -> None:
    Life(marker).begin()
    again = Life(marker)
    assert again.unclean
    again.begin()
    again.end()
    assert not Life(marker).unclean


def test_the_end_of_the_machine_is_no_crash(
    marker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = tmp_path / "boot_id"
    monkeypatch.setattr(lives, "_BOOT", boot)
    boot.write_text("one")
    Life(marker).begin()
    boot.write_text("another")
    assert not Life(marker).unclean


def test_a_folder_that_cannot_be_written_is_said_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    life = Life(tmp_path / "file" / "e1.serving")
    life.begin()
    life.end()
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_an_engine_that_remembers_nothing_has_no_marker() -> None:
    life = Life(None)
    life.begin()
    life.end()
    assert not life.unclean
