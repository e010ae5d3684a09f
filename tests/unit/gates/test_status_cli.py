"""`phase5 status`: the store, the engines, the rest of the soak, and what is amiss."""

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_engine import dead_url
from live_builders import HEADER, rows
from moving_world import FLAG, PHASE5, World, world

from gates import status_cli
from gates.fleet import known_engines, state_folder
from gates.ledger_file import text_of
from gates.status_cli import Question, show_status

CANARY = "{ttft_pipeline: {enabled: true, rollout_percentage: 1, stage: canary, epoch: 4}}"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "config") as w:
        w.write(CANARY)
        yield w


@pytest.fixture
def look(here: World, capsys: pytest.CaptureFixture[str]) -> Any:
    """The status of that world as JSON, and the exit status."""

    def run(**question: Any) -> tuple[int, Any]:
        status = show_status(Question(**{"config": here.config, **question}), as_json=True)
        return status, json.loads(capsys.readouterr().out)

    return run


def test_store_and_engines_side_by_side(here: World, look: Any) -> None:
    here.engine.shares = {FLAG: 1.0}
    here.engine.stages = {FLAG: "canary"}
    status, said = look()
    assert (status, said["generation"], said["problems"]) == (0, 3, [])
    flag = said["flags"][FLAG]
    assert (flag["stage"], flag["percentage"], flag["next"]) == ("canary", 1, "early")
    assert said["engines"][here.engine.url]["flags"][FLAG]["effective"] == 1.0


def test_without_engines_it_is_no_failure(
    here: World, look: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_cli, "_ANSWER_SECONDS", 0.1)
    here.engines = []
    here.write(CANARY)
    status, said = look()
    assert (status, said["engines"]) == (0, {})
    here.write(CANARY, engines=[dead_url()])
    status, said = look()
    assert status == 0
    assert "no answer" in said["problems"][0]


def ledger(here: World, text: str) -> None:
    folder = state_folder(here.config) / "guard" / "ledger"
    folder.mkdir(parents=True)
    (folder / f"{FLAG}-4.jsonl").write_text(text, "utf-8")


def test_the_soak_counts_the_minutes_of_the_guards_ledger(here: World, look: Any) -> None:
    assert look()[1]["flags"][FLAG]["soak"]["left_minutes"] is None
    ledger(here, text_of(replace(HEADER, epoch=4), rows(100)))
    soak = look()[1]["flags"][FLAG]["soak"]
    assert (soak["demanded_minutes"], soak["valid_minutes"]) == (1440, 100)
    assert soak["left_minutes"] == 1340
    assert look()[1]["flags"]["qos_monitoring"]["soak"] is None


def test_a_ledger_that_cannot_be_read_is_no_soak(here: World, look: Any) -> None:
    ledger(here, "torn")
    soak = look()[1]["flags"][FLAG]["soak"]
    assert soak["left_minutes"] is None
    assert soak["trouble"]


def test_what_is_not_as_the_store_says_is_named(here: World, look: Any) -> None:
    here.engine.brakes = {FLAG: "b1"}
    here.engine.unmanaged = {"qos_monitoring"}
    here.engine.generation = 2
    problems = "\n".join(look()[1]["problems"])
    assert f"{FLAG} braked (manual), and the store still has canary" in problems
    assert "qos_monitoring at 0 % by hand" in problems
    assert "at generation 2, store 3" in problems


def test_a_history_that_was_changed_is_named(here: World, look: Any) -> None:
    here.write(CANARY)
    text = here.config.read_text("utf-8")
    here.config.write_text(text + f"history_head: {'ab' * 32}\n", "utf-8")
    assert any("history" in problem for problem in look()[1]["problems"])


def test_a_store_that_cannot_be_read_still_shows_the_engines(here: World, look: Any) -> None:
    here.write(CANARY, store="file:gone.yaml")
    status, said = look()
    assert (status, said["generation"]) == (1, None)
    assert said["engines"][here.engine.url]["error"] is None
    assert "gone.yaml" in said["problems"][0]


def test_a_configuration_that_names_no_store_is_a_usage_error(here: World, look: Any) -> None:
    here.config.write_text("[", "utf-8")
    status, said = look()
    assert status == 2
    assert str(here.config) in said["error"]


def test_it_keeps_the_engines_for_a_rollback(here: World, look: Any) -> None:
    look()
    here.config.unlink()
    assert known_engines(here.config, ()).urls == (here.engine.url,)


def brief_of(said: Any, flag: str = FLAG) -> Any:
    return next(brief for brief in said["briefs"] if brief["flag"] == flag)


def test_it_opens_with_the_flag_that_cannot_wait(
    here: World, look: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    here.engine.brakes = {FLAG: "b1"}
    first = look()[1]["briefs"][0]
    assert (first["flag"], first["level"]) == (FLAG, "act")
    assert list(first["unconfirmed"]) == [here.engine.url]
    assert f"phase5 rollback --flag {FLAG}" in first["command"]
    show_status(Question(config=here.config), as_json=False)
    out = capsys.readouterr().out
    assert out.index("braked by 1 of 1 engines") < out.index("qos_monitoring")
    assert first["runbook"] in out


def test_what_the_guard_left_is_shown_and_its_silence_is_told(here: World, look: Any) -> None:
    assert look()[1]["guard"] == {"beat": None, "told": []}
    here.engine.shares = {FLAG: 1.0}
    folder = state_folder(here.config) / "guard"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "heartbeat.json").write_text('{"at": "2026-01-01T00:00:00+00:00"}', "utf-8")
    said = look()[1]
    assert said["guard"]["beat"] == "2026-01-01T00:00:00+00:00"
    assert "the guard is silent since 00:00:00Z" in brief_of(said)["headline"]
    (folder / "heartbeat.json").write_text("torn", "utf-8")
    assert look()[1]["guard"]["beat"] is None


def test_a_prometheus_that_does_not_answer_is_named(here: World, look: Any) -> None:
    assert look()[1]["prometheus"] is None
    here.write(CANARY, prometheus=dead_url())
    status, said = look()
    assert status == 0
    assert said["prometheus"]["trouble"]


def test_with_the_store_unknown_the_way_back_is_told(here: World, look: Any) -> None:
    here.engine.shares = {FLAG: 1.0}
    here.write(CANARY, store="file:gone.yaml")
    brief = look()[1]["briefs"][0]
    assert (brief["flag"], brief["level"]) == (FLAG, "act")
    assert brief["acted"].startswith("unknown: ")
    assert f"phase5 rollback --flag {FLAG}" in brief["command"]


def test_off_a_terminal_names_are_whole(here: World, capsys: pytest.CaptureFixture[str]) -> None:
    reason = "because " * 60
    here.write(CANARY.replace("epoch: 4", f"epoch: 4, held: {reason}"))
    assert show_status(Question(config=here.config), as_json=False) == 0
    out = capsys.readouterr().out
    assert reason.strip() in out
    assert here.engine.url in out


def test_watching_needs_a_terminal(look: Any) -> None:
    assert look(watch=True)[0] == 2


def test_on_a_terminal_it_stays_until_it_is_interrupted(here: World) -> None:
    terminal, ours = pty.openpty()
    command = [str(PHASE5), *here.arguments("status", "--watch")]
    command.remove("--json")
    with subprocess.Popen(command, stdin=ours, stdout=ours, stderr=ours) as process:
        os.close(ours)
        seen = b""
        while b"qos_monitoring" not in seen:
            seen += os.read(terminal, 10_000)
        process.send_signal(signal.SIGINT)
        while process.poll() is None:
            with suppress(OSError):
                os.read(terminal, 10_000)
    os.close(terminal)
    assert process.returncode == 0
