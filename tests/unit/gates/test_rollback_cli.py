"""`phase5 rollback`: engines first, then the store; only confirmed when every engine said so."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fake_engine import FakeEngine, dead_url, paths, running
from moving_world import COMMENTED, FLAG, World, world

from engine.core.flags import FLAGS
from gates import rollback_cli
from gates.durable import locked
from gates.file_store import LOCK_FILE, FileStore
from gates.fleet import remember
from gates.history import HISTORY_FILE, Record
from gates.rollback_cli import Order, rollback
from gates.stages import Event
from gates.standing import candidate
from gates.store import open_store

CANARY = "{ttft_pipeline: {enabled: true, rollout_percentage: 1, stage: canary, epoch: 4}}"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    """Two engines and one flag at canary."""
    with world(tmp_path / "config", (FakeEngine(engine_id="e1"), FakeEngine(engine_id="e2"))) as w:
        w.write(CANARY)
        yield w


@pytest.fixture
def roll(here: World, capsys: pytest.CaptureFixture[str]) -> Any:
    """Roll back on that world; status and JSON."""

    def run(**order: Any) -> tuple[int, Any]:
        status = rollback(Order(**{"config": here.config, **order}), as_json=True)
        return status, json.loads(capsys.readouterr().out)

    return run


def test_every_engine_brakes_then_the_store_says_off_and_the_history_why(
    here: World, roll: Any
) -> None:
    status, said = roll(reason="cut answers")
    assert (status, said["confirmed"]) == (0, True)
    assert set(said["engines"]) == set(here.urls)
    assert said["seconds"] == max(e["seconds"] for e in said["engines"].values()) > 0
    assert said["store"]["flags"] == {FLAG: {"from": "canary", "to": "off"}}
    standing = here.read().flags[FLAG]
    assert (standing.stage, standing.epoch, standing.percentage) == ("off", 5, 0.0)
    (record,) = open_store(here.config).history().records
    assert (record.event, record.cause, record.reason) == ("rollback", "manual", "cut answers")
    assert here.config.read_text("utf-8").startswith(COMMENTED)
    assert [engine.generation for engine in here.engines] == [4, 4]


def test_what_the_engines_ran_may_not_return(here: World, roll: Any) -> None:
    roll()
    ran = candidate(here.engine.commit, here.engine.config_sha256)
    assert here.read().flags[FLAG].tombstones == (ran,)


def test_engines_that_differ_leave_every_candidate_barred(here: World, roll: Any) -> None:
    here.engine.commit = "another"
    roll()
    assert here.read().flags[FLAG].bars(candidate("whatever", "x" * 32))


def test_twice_does_no_harm_and_moves_nothing(here: World, roll: Any) -> None:
    _, first = roll()
    flags = here.read().flags
    status, second = roll()
    assert (status, second["confirmed"]) == (0, True)
    assert [e["brakes"] for e in second["engines"].values()] == [
        e["brakes"] for e in first["engines"].values()
    ]
    assert here.read().flags == flags
    assert second["store"]["generation"] == first["store"]["generation"] + 1  # for who is in flight


def test_only_the_flag_that_was_named(here: World, roll: Any) -> None:
    _, said = roll(flags=("qos_monitoring",))
    assert said["flags"] == ["qos_monitoring"]
    assert list(here.engine.brakes) == ["qos_monitoring"]
    assert here.read().flags[FLAG].stage == "canary"


def test_without_a_flag_all_of_them(here: World, roll: Any) -> None:
    roll()
    assert set(here.engine.brakes) == set(FLAGS)


def test_an_engine_that_is_down_is_named_and_nothing_waits_for_it(
    here: World, roll: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollback_cli, "PATIENCE", 0.3)
    dead = dead_url()
    status, said = roll(engines=(dead,))
    assert (status, said["confirmed"], said["seconds"]) == (1, False, None)
    assert [url for url, engine in said["engines"].items() if not engine["confirmed"]] == [dead]
    assert all(engine.brakes for engine in here.engines)
    assert here.read().flags[FLAG].stage == "off"


def test_an_engine_that_comes_back_is_braked_by_the_second_call(
    roll: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollback_cli, "PATIENCE", 0.3)
    late = FakeEngine(engine_id="late", shares={FLAG: 1.0})
    late.faults = [503] * 1_000
    with running(late):
        assert roll(engines=(late.url,))[0] == 1
        assert not late.brakes
        late.faults = []
        assert roll(engines=(late.url,))[0] == 0
        assert late.flag(FLAG)["effective"] == 0


def test_an_engine_that_brakes_and_serves_on_has_not_confirmed(here: World, roll: Any) -> None:
    here.engine.forced = 100.0
    status, said = roll()
    assert status == 1
    assert "still serves" in said["engines"][here.engine.url]["error"]


def test_without_an_engine_nobody_confirmed(here: World, roll: Any) -> None:
    here.engines = []
    here.write(CANARY)
    status, said = roll()
    assert (status, said["confirmed"]) == (1, False)
    assert here.read().flags[FLAG].stage == "off"


@pytest.mark.parametrize("broken", ["phase4_rollout: [", "", "rollout: {engines: 7}", None])
def test_engines_that_were_known_last_brake_though_the_file_is_broken(
    here: World, roll: Any, broken: str | None
) -> None:
    remember(here.config, here.urls, None)
    if broken is None:
        here.config.unlink()
    else:
        here.config.write_text(broken, encoding="utf-8")
    status, said = roll()
    assert (status, said["confirmed"]) == (0, True)
    assert all(engine.brakes for engine in here.engines)
    assert said["store"]["error"]


def test_a_mistake_elsewhere_in_the_file_costs_no_engine(here: World, roll: Any) -> None:
    text = here.config.read_text("utf-8") + "runtime: {replicas: none}\n"
    here.config.write_text(text, encoding="utf-8")
    status, said = roll()
    assert (status, set(said["engines"])) == (0, set(here.urls))
    assert "runtime.replicas" in said["store"]["error"]


def test_a_policy_that_is_broken_costs_nothing(here: World, roll: Any) -> None:
    here.config.with_name("gates.yaml").write_text("stages: [", encoding="utf-8")
    status, said = roll()
    assert (status, said["store"]["error"]) == (0, None)
    assert said["store"]["flags"] == {FLAG: {"from": "canary", "to": "off"}}


def test_a_lock_that_is_held_keeps_no_engine_waiting(
    here: World, roll: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FileStore.__init__.__kwdefaults__, "lock_seconds", 0.1)
    with locked(here.config.parent / LOCK_FILE, 1.0):
        status, said = roll()
    assert (status, said["confirmed"]) == (0, True)
    assert "held by" in said["store"]["error"]
    assert roll()[1]["store"]["flags"] == {FLAG: {"from": "canary", "to": "off"}}


def test_a_git_that_cannot_be_reached_keeps_no_engine_waiting(here: World, roll: Any) -> None:
    here.write(CANARY, store="git:/nowhere/at-all.git#main")
    status, said = roll()
    assert (status, said["confirmed"]) == (0, True)
    assert "/nowhere/at-all.git" in said["store"]["error"]


def test_a_history_that_is_missing_keeps_nothing_from_being_written(here: World, roll: Any) -> None:
    roll()
    (here.config.parent / HISTORY_FILE).unlink()
    text = here.config.read_text("utf-8")
    here.config.write_text(
        text.replace("stage: off", "stage: canary")
        .replace("rollout_percentage: 0", "rollout_percentage: 1")
        .replace("enabled: false", "enabled: true"),
        "utf-8",
    )
    assert here.read().flags[FLAG].stage != "off"
    status, said = roll()
    assert (status, said["store"]["error"]) == (0, None)
    assert here.read().flags[FLAG].stage == "off"


def test_a_promotion_that_came_between_loses(
    here: World, roll: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It saw the brake at off, cites it as lifted, and is written before the rollback is."""
    here.write()
    write = rollback_cli._write

    def promoted_before(*arguments: Any) -> Any:
        store = open_store(here.config)
        before = store.read()
        lifted = tuple(engine.brakes[FLAG] for engine in here.engines)
        raised = replace(
            before.flags[FLAG], lifted=lifted, percentage=1.0, epoch=1, stage="canary", enabled=True
        )
        record = Record(event=Event.PROMOTE, reason="", who="ci", at=datetime.now(UTC))
        store.write(before, {FLAG: raised}, record)
        for engine in here.engines:
            engine.brakes = {}
        return write(*arguments)

    monkeypatch.setattr(rollback_cli, "_write", promoted_before)
    status, _ = roll()
    assert status == 0
    assert here.read().flags[FLAG].stage == "off"
    assert all(FLAG in engine.brakes for engine in here.engines)


def test_a_rehearsal_tells_nobody(here: World, roll: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollback_cli, "_IDENTITY_SECONDS", 0.3)
    here.engine.shares = {FLAG: 1.0}
    text = here.config.read_text("utf-8")
    status, said = roll(dry_run=True)
    assert (status, said["reached"]) == (0, True)
    assert said["engines"][here.engine.url][FLAG] == 1.0
    assert [paths(engine) for engine in here.engines] == [[], []]
    assert here.config.read_text("utf-8") == text
    assert roll(dry_run=True, engines=(dead_url(),))[0] == 1


def test_the_words_say_who_confirmed_and_when(
    here: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rollback(Order(config=here.config), as_json=False) == 0
    out = capsys.readouterr().out
    assert "every engine at 0 % after" in out
    assert f"{FLAG}: canary -> off" in out
    assert all(url in out for url in here.urls)


def test_what_the_engines_said_is_told_before_a_slow_store_is_waited_for(
    here: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = rollback_cli._write
    told: list[str] = []

    def slow(*arguments: Any) -> Any:
        told.append(capsys.readouterr().out)
        return write(*arguments)

    monkeypatch.setattr(rollback_cli, "_write", slow)
    assert rollback(Order(config=here.config), as_json=False) == 0
    assert "every engine at 0 % after" in told[0]
    assert "every engine" not in capsys.readouterr().out
