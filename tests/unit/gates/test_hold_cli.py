"""`phase5 hold`, `resume` and `approve`: a person's word, with who and why."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_engine import dead_url
from moving_world import FLAG, World, world

from gates import delivering, hold_cli
from gates.acting import who
from gates.hold_cli import Order, give
from gates.stages import Event
from gates.standing import candidate
from gates.store import open_store

CANARY = "{ttft_pipeline: {enabled: true, rollout_percentage: 1, stage: canary, epoch: 4}}"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "config") as w:
        w.write(CANARY, approval=["early"])
        yield w


@pytest.fixture
def say(here: World, capsys: pytest.CaptureFixture[str]) -> Any:
    """Give a word on that world; status and JSON."""

    def run(event: Event, reason: str = "", **order: Any) -> tuple[int, Any]:
        given = {"config": here.config, "flags": (FLAG,), "event": event, "reason": reason}
        status = give(Order(**{**given, **order}), as_json=True)
        return status, json.loads(capsys.readouterr().out)

    return run


def test_a_hold_shows_until_it_is_resumed_and_moves_no_share(here: World, say: Any) -> None:
    status, said = say(Event.HOLD, "release freeze")
    assert (status, said["flags"][FLAG]["held"]) == (0, "release freeze")
    assert said["engines"][here.engine.url]["taken"]
    standing = here.read().flags[FLAG]
    assert (standing.held, standing.stage, standing.epoch) == ("release freeze", "canary", 4)
    assert say(Event.RESUME)[1]["flags"][FLAG]["held"] is None
    records = open_store(here.config).history().records
    assert [(r.event, r.reason) for r in records] == [("hold", "release freeze"), ("resume", "")]
    assert {r.who for r in records} == {who()}


def test_what_needs_no_word_is_refused(here: World, say: Any) -> None:
    text = here.config.read_text("utf-8")
    assert "not held" in say(Event.RESUME)[1]["error"]
    assert say(Event.HOLD, "")[0] == 1
    here.write(CANARY)
    assert "needs no approval" in say(Event.APPROVE)[1]["error"]
    here.config.write_text(text, "utf-8")
    assert here.read().generation == 3


def test_an_approval_names_stage_epoch_and_what_the_engines_run(here: World, say: Any) -> None:
    status, said = say(Event.APPROVE)
    ran = candidate(here.engine.commit, here.engine.config_sha256)
    assert (status, said["flags"][FLAG]["approved"]) == (0, f"early@4 {ran}")


def test_an_approval_does_not_need_the_engines(
    here: World, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold_cli, "_IDENTITY_SECONDS", 0.1)
    monkeypatch.setattr(delivering, "PATIENCE", 0.1)
    here.write(CANARY, approval=["early"], engines=[dead_url()])
    status, said = say(Event.APPROVE)
    assert (status, said["flags"][FLAG]["approved"]) == (0, "early@4")


def test_a_candidate_is_let_in_again_with_a_reason(here: World, say: Any) -> None:
    barred = "{ttft_pipeline: {tombstones: [c0ffee@ab, feed@cd]}}"
    here.write(barred)
    here.engine.brakes = {FLAG: "b1"}
    assert say(Event.CLEAR, candidate="c0ffee@ab")[0] == 1
    assert say(Event.CLEAR, "disk was full", candidate="nobody")[0] == 0  # a brake is there to lift
    status, said = say(Event.CLEAR, "disk was full", candidate="c0ffee@ab")
    assert (status, said["flags"][FLAG]["tombstones"]) == (0, ["feed@cd"])
    assert here.engine.brakes == {}


def test_a_rehearsal_changes_nothing(here: World, say: Any) -> None:
    text = here.config.read_text("utf-8")
    status, said = say(Event.HOLD, "freeze", dry_run=True)
    assert (status, said["dry_run"], said["changed"]) == (0, True, [FLAG])
    assert here.config.read_text("utf-8") == text
    assert here.engine.told == []


def test_the_words_name_flag_and_generation(
    here: World, capsys: pytest.CaptureFixture[str]
) -> None:
    order = Order(event=Event.HOLD, config=here.config, flags=(FLAG,), reason="freeze")
    assert give(order, as_json=False) == 0
    out = capsys.readouterr().out
    assert f"{FLAG}: held" in out
    assert "generation 4" in out
    assert give(order, as_json=False) == 0
    assert f"{FLAG}: nothing to change" in capsys.readouterr().out


def test_a_broken_configuration_is_named(here: World, say: Any) -> None:
    here.config.write_text("[", "utf-8")
    status, said = say(Event.HOLD, "freeze")
    assert status == 1
    assert str(here.config) in said["error"]


def test_in_a_workflow_the_actor_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert "@" in who()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_ACTOR", "ada")
    monkeypatch.setenv("GITHUB_REPOSITORY", "team/engine")
    monkeypatch.setenv("GITHUB_RUN_ID", "42")
    assert who() == "ada (team/engine run 42)"
