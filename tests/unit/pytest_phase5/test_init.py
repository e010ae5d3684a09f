from pathlib import Path

import pytest

from engine.config import load_config, packaged
from pytest_phase5.init import InitError, init

RUNTIME = Path("config", "runtime.yaml")
WORKFLOW = Path(".github", "workflows", "phase5-gate.yml")
SAMPLE = Path("tests", "test_slo.py")


def everything(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_empty_folder_gets_every_file_and_nothing_else(tmp_path: Path) -> None:
    files = init(tmp_path)
    assert all(file.written for file in files)
    assert {file.path.relative_to(tmp_path) for file in files} == set(everything(tmp_path))
    assert {RUNTIME, WORKFLOW, SAMPLE} <= set(everything(tmp_path))


def test_configuration_is_the_packaged_one_and_loads(tmp_path: Path) -> None:
    init(tmp_path)
    assert (tmp_path / RUNTIME).read_bytes() == packaged("runtime.yaml").read_bytes()
    load_config(tmp_path / RUNTIME)
    assert (tmp_path / "config" / "gates.yaml").exists() == packaged("gates.yaml").exists()


def test_a_folder_that_does_not_exist_is_made(tmp_path: Path) -> None:
    init(tmp_path / "new" / "project")
    assert (tmp_path / "new" / "project" / RUNTIME).exists()


def test_what_stands_is_kept_and_said_so(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / RUNTIME).write_text("runtime: {model: tiny}\n")
    written = {file.path.relative_to(tmp_path): file.written for file in init(tmp_path)}
    assert written[RUNTIME] is False
    assert written[WORKFLOW] is True
    assert (tmp_path / RUNTIME).read_text() == "runtime: {model: tiny}\n"


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    init(tmp_path)
    before = everything(tmp_path)
    assert not any(file.written for file in init(tmp_path))
    assert everything(tmp_path) == before


def test_a_dangling_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / RUNTIME).symlink_to(tmp_path / "elsewhere.yaml")
    init(tmp_path)
    assert not (tmp_path / "elsewhere.yaml").exists()


@pytest.mark.parametrize("obstacle", ["config", "tests", ".github", ".github/workflows"])
def test_all_or_nothing_is_written(obstacle: str, tmp_path: Path) -> None:
    path = tmp_path / obstacle
    path.parent.mkdir(exist_ok=True)
    path.write_text("a file where a folder is needed")
    before = everything(tmp_path)
    with pytest.raises(InitError, match="cannot be written") as refusal:
        init(tmp_path)
    assert str(path) in str(refusal.value)
    assert everything(tmp_path) == before
    folders = {p for p in tmp_path.rglob("*") if p.is_dir()}
    assert folders <= {path.parent}
