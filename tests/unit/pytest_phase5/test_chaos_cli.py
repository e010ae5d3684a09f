"""`phase5 chaos`: what cannot run says so in one line, before anything was started."""

import json
from pathlib import Path
from typing import Any

import pytest

from chaos.catalogue import EXPERIMENTS
from pytest_phase5.breaking.cli import Options, install, list_experiments, run


def test_the_list_names_every_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_experiments(as_json=True) == 0
    rows = json.loads(capsys.readouterr().out)["experiments"]
    assert [row["name"] for row in rows] == list(EXPERIMENTS)
    assert list_experiments(as_json=False) == 0
    assert "runtime-kill" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "options", "status", "said"),
    [
        ("runtime-kil", {}, 2, "experiment 'runtime-kil'; allowed: runtime-kill, "),
        ("reset-peer", {"config": Path("nowhere/runtime.yaml")}, 2, "nowhere"),
        ("reset-peer", {"engine_url": "http://127.0.0.1:1"}, 1, "http://127.0.0.1:1"),
    ],
)
def test_a_wrong_call_is_refused_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    name: str,
    options: dict[str, Any],
    status: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(name, Options(**options), as_json=True) == status
    captured = capsys.readouterr()
    assert said in json.loads(captured.out)["error"]
    assert said in captured.err


def test_a_report_goes_into_no_folder_that_holds_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old").touch()
    assert run("reset-peer", Options(report=tmp_path), as_json=False) == 2
    assert "not empty; allowed: a new or empty folder" in capsys.readouterr().err


def test_install_finds_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = tmp_path / "toxiproxy-server"
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    monkeypatch.setenv("TOXIPROXY_SERVER", str(server))
    assert install(as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(server), "built": False}
    monkeypatch.setenv("TOXIPROXY_SERVER", str(tmp_path / "gone"))
    assert install(as_json=False) == 1
    assert "is not a program" in capsys.readouterr().err
