"""`phase5 load`: what cannot run says so in one line, before anything was started."""

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_phase5.load.cli import Options, list_profiles, run, work
from pytest_phase5.load.profiles import PROFILES, Part
from pytest_phase5.load.progress import Progress
from pytest_phase5.load.showing import NOW_AND_THEN, Lines


def test_the_list_names_every_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_profiles(as_json=True) == 0
    rows = json.loads(capsys.readouterr().out)["profiles"]
    assert [row["name"] for row in rows] == list(PROFILES)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("spice", {}, "profile 'spice'; allowed: ttft, "),
        ("ttft", {"time_scale": 0.0}, "--time-scale 0; allowed"),
        ("ttft", {"time_scale": 2.0}, "--time-scale 2; allowed"),
        ("ttft", {"driver": "http3"}, "--driver 'http3'; allowed: http1, http2, locust"),
        ("ttft", {"flags": "turbo"}, "turbo"),
        ("spike", {"processes": 2}, "a fleet with --driver http1; allowed: --driver locust"),
        ("spike", {"workers": 2, "driver": "http2"}, "allowed: --driver locust"),
        ("spike", {"driver": "locust", "processes": 0}, "--processes 0 --workers 0"),
        ("spike", {"driver": "locust", "processes": 2, "workers": 2}, "allowed: 1 process or"),
        ("spike", {"driver": "locust", "workers": 1, "bind": "here"}, "--bind 'here'; allowed"),
        ("spike", {"driver": "locust", "workers": 1, "bind": "*:0"}, "port 0"),
        ("spike", {"driver": "locust", "bind": "*:5557"}, "allowed: --bind only with --workers"),
        ("ttft", {"driver": "locust", "processes": 2}, "part 'one at a time' keeps a number of"),
        ("stress", {"driver": "locust"}, "part 'steps' needs one sender; allowed: --driver http1"),
        ("connections", {"driver": "locust"}, "part 'HTTP/1.1' is sent by http1"),
        ("ttft", {"config": Path("nowhere/runtime.yaml")}, "nowhere"),
        ("regression", {"baseline": Path("nowhere.json")}, "nowhere.json: no baseline"),
    ],
)
def test_a_wrong_call_is_refused_with_what_is_allowed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    name: str,
    options: dict[str, Any],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(name, Options(**options), as_json=True) == 2
    shown = capsys.readouterr()
    assert said in json.loads(shown.out)["error"]
    assert said in shown.err


@pytest.mark.parametrize(
    ("address", "processes", "said"),
    [("nowhere", 1, "worker 'nowhere'; allowed: HOST:PORT"), ("a:1", 0, "--processes 0; allowed")],
)
def test_a_worker_of_nobody_is_refused(
    address: str, processes: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert work(address, processes, once=True) == 2
    assert said in capsys.readouterr().err


def test_a_report_folder_with_something_in_it_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old").touch()
    assert run("ttft", Options(report=tmp_path), as_json=False) == 2
    assert "not empty" in capsys.readouterr().err


def test_a_line_comes_now_and_then() -> None:
    said: list[str] = []
    at = 0.0
    lines = Lines(said.append, clock=lambda: at)
    part = Part(name="p", load=PROFILES["ttft"].parts[0].load)
    for at in (0.0, 1.0, NOW_AND_THEN - 1, NOW_AND_THEN, NOW_AND_THEN + 1):
        lines(part, Progress(at=at, planned=9, sent=5, ended=3, errors=1, dropped=4))
    assert said == ["p: 3 of 9 requests, 2 in flight, 1 failed, 4 dropped\n"] * 2
