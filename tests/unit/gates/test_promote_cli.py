"""`phase5 promote`: a verdict moves what it is about, once; whatever is refused changes nothing."""

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_engine import paths
from moving_world import COMMENTED, FLAG, World, world
from store_builders import remote

from engine.core.flags import FLAGS
from gates import promote_cli
from gates.fleet import known_engines
from gates.moving import PromotionRefusedError
from gates.promote_cli import Order, Plan, promote
from gates.rollback_cli import Order as RollbackOrder
from gates.rollback_cli import rollback
from gates.standing import Standing
from gates.store import open_store


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The configuration's folder with a report in it: into canary, every flag, just now."""
    with world(tmp_path_factory.mktemp("judged")) as w:
        report = w.config.parent / "report"
        path = w.verdict(report)
        assert json.loads(path.read_text("utf-8"))["verdict"] == "promote"
        yield report


@pytest.fixture
def here(tmp_path: Path, judged: Path) -> Iterator[World]:
    """An engine that serves what was judged, all flags off; the report may be changed."""
    with world(tmp_path / "config") as w:
        shutil.copytree(judged, w.config.parent / "report")
        yield w


@pytest.fixture
def move(here: World, capsys: pytest.CaptureFixture[str]) -> Any:
    """Promote on that world; status and JSON."""

    def run(**order: Any) -> tuple[int, Any]:
        given = {"config": here.config, "verdict": here.config.parent / "report" / "verdict.json"}
        status = promote(Order(**{**given, **order}), as_json=True)
        return status, json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


def test_a_verdict_moves_its_flag_delivers_it_and_is_recorded(here: World, move: Any) -> None:
    status, said = move(flags=(FLAG,), reason="all green")
    assert (status, said["refused"]) == (0, None)
    assert said["promoted"] == {
        FLAG: {"from": "off", "to": "canary", "percentage": 1.0, "epoch": 1}
    }
    snapshot = here.read()
    assert (snapshot.flags[FLAG].stage, snapshot.generation) == ("canary", 4)
    assert snapshot.flags["qos_monitoring"].stage == "off"
    assert (here.engine.shares[FLAG], here.engine.generation) == (1.0, 4)
    assert said["engines"][here.engine.url] == {"taken": True, "reason": None}
    (record,) = open_store(here.config).history().records
    assert (record.event, record.verdict, record.reason) == (
        "promote",
        said["verdict"],
        "all green",
    )
    assert here.config.read_text("utf-8").startswith(COMMENTED)


def test_without_a_flag_every_flag_moves_that_the_verdict_promotes(move: Any) -> None:
    assert set(move()[1]["promoted"]) == set(FLAGS)


def test_a_rehearsal_checks_everything_and_changes_nothing(here: World, move: Any) -> None:
    text = here.config.read_text("utf-8")
    status, said = move(dry_run=True)
    assert (status, said["dry_run"], set(said["promoted"])) == (0, True, set(FLAGS))
    assert here.config.read_text("utf-8") == text
    assert paths(here.engine) == []
    here.engine.commit = "another"
    assert move(dry_run=True)[0] == 1


def edit(here: World, old: str, new: str) -> None:
    path = here.config.parent / "report" / "verdict.json"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


def spoil(here: World) -> None:
    evidence = here.config.parent / "report" / "evidence"
    min(evidence.iterdir()).unlink()


def configure(here: World) -> None:
    """Another configuration in the store, and the engine follows it."""
    here.config.write_text(here.config.read_text("utf-8") + "admission: {limit: 7}\n", "utf-8")


def policy(here: World) -> None:
    from engine.config import packaged

    text = packaged("gates.yaml").read_text("utf-8")
    changed = text.replace("max_age_hours: 24", "max_age_hours: 23")
    here.config.with_name("gates.yaml").write_text(
        changed if changed != text else text.replace("soak_hours: 24", "soak_hours: 23"), "utf-8"
    )


def moved_since(here: World) -> None:
    here.write("{ttft_pipeline: {epoch: 2}}")


@dataclass(frozen=True)
class Row:
    """What is wrong, and the field that the refusal names."""

    name: str
    spoil: Callable[[World], None]
    field: str


REFUSED = [
    Row("a space more", lambda here: edit(here, '": ', '":  '), "sha256"),
    Row("another number", lambda here: edit(here, '"n": 3000', '"n": 9000'), "criteria.1.n"),
    Row("another outcome", lambda here: edit(here, '"pass"', '"fail"'), "criteria.0.outcome"),
    Row("another epoch", lambda here: edit(here, f'"{FLAG}": 0', f'"{FLAG}": 1'),
        f"subject.epochs.{FLAG}"),
    Row("another build", lambda here: edit(here, "c0ffee", "c0ffef"), "subject.commit"),
    Row("evidence gone", spoil, "criteria.1.estimate"),
    Row("engine of another build", lambda here: setattr(here.engine, "commit", "feed"),
        "subject.commit"),
    Row("engine of another configuration",
        lambda here: setattr(here.engine, "config_sha256", "dd"), "subject.config_sha256"),
    Row("another configuration", configure, "subject.config_sha256"),
    Row("another policy", policy, "subject.policy_sha256"),
    Row("another model", lambda here: setattr(here.engine, "model", ("tiny", "ab" * 32)),
        "subject.models"),
    Row("another machine class", lambda here: setattr(here.engine, "machine", "darwin-arm64-8cpu"),
        "environment.machine"),
    Row("moved since", moved_since, f"subject.epochs.{FLAG}"),
    Row("engine ahead of the store", lambda here: setattr(here.engine, "generation", 99),
        "generation"),
    Row("raised by hand", lambda here: here.engine.unmanaged.add(FLAG), f"engine.flags.{FLAG}"),
    Row("no approval", lambda here: here.write(approval=["canary"]), "rollout"),
]  # fmt: skip


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.name)
def test_what_does_not_fit_is_refused_by_field_and_changes_nothing(
    here: World, move: Any, row: Row
) -> None:
    row.spoil(here)
    text = here.config.read_text("utf-8")
    status, said = move(flags=(FLAG,))
    assert (status, said["promoted"]) == (1, {})
    assert said["refused"]["field"] == row.field, said
    assert said["refused"]["given"] != said["refused"]["wanted"]
    assert here.config.read_text("utf-8") == text
    assert paths(here.engine) == []
    assert open_store(here.config).history().records == ()


def test_a_verdict_is_used_once(here: World, move: Any) -> None:
    """Where an older store was put back, the engines know better."""
    before = here.config.read_text("utf-8")
    assert move(flags=(FLAG,))[0] == 0
    assert move(flags=(FLAG,))[1]["refused"]["field"] == "sha256"
    here.config.write_text(before, "utf-8")
    status, said = move(flags=("qos_monitoring",))
    assert (status, said["refused"]["field"]) == (1, "generation")


def test_a_verdict_of_another_flag_moves_none(here: World, move: Any, tmp_path: Path) -> None:
    report = tmp_path / "other"
    path = here.verdict(report)
    document = json.loads(path.read_text("utf-8"))
    del document["flags"][FLAG]
    path.write_text(json.dumps(document, sort_keys=True, indent=1) + "\n", "utf-8")
    status, said = move(verdict=path, flags=(FLAG,))
    assert (status, said["refused"]["field"]) == (1, f"flags.{FLAG}")
    assert "wanted one of" in said["error"]


def test_a_dry_run_moves_nothing(here: World, move: Any, tmp_path: Path) -> None:
    path = here.verdict(tmp_path / "dry", origin="off")
    assert json.loads(path.read_text("utf-8"))["dry_run"]
    assert move(verdict=path)[1]["refused"] == {
        "field": "dry_run",
        "given": "true",
        "wanted": "false",
    }


@pytest.mark.parametrize("text", [None, "", "{}"])
def test_what_is_no_verdict_is_refused(move: Any, tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "verdict.json"
    if text is not None:
        path.write_text(text, "utf-8")
    status, said = move(verdict=path)
    assert status == 1
    assert str(path) in said["error"]


def test_a_configuration_that_cannot_serve_is_a_usage_error(here: World, move: Any) -> None:
    here.config.with_name("gates.yaml").write_text("stages: [", "utf-8")
    assert move()[0] == 2


@pytest.mark.parametrize(
    "others", ["{}", "{qos_monitoring: {enabled: true, stage: canary, rollout_percentage: 1}}"]
)
def test_a_promotion_in_flight_loses_to_a_rollback(
    here: World,
    move: Any,
    others: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It comes between the reading and the writing, also where all flags are at off."""
    here.write(others)
    ask = promote_cli.statuses

    async def with_rollback_behind(*arguments: Any, **named: Any) -> Any:
        views = await ask(*arguments, **named)
        await asyncio.to_thread(rollback, RollbackOrder(config=here.config), as_json=True)
        capsys.readouterr()
        return views

    monkeypatch.setattr(promote_cli, "statuses", with_rollback_behind)
    status, said = move(flags=(FLAG,))
    assert (status, said["refused"]["field"]) == (1, "generation")
    assert {standing.stage for standing in here.read().flags.values()} == {"off"}
    assert here.engine.flag(FLAG)["effective"] == 0


def test_an_engine_that_did_not_take_it_is_left_to_the_guard(here: World, move: Any) -> None:
    here.engine.faults = [200, 404]
    status, said = move(flags=(FLAG,))
    assert status == 0
    assert said["engines"][here.engine.url]["taken"] is False
    assert "fault 404" in said["engines"][here.engine.url]["reason"]
    assert here.read().flags[FLAG].stage == "canary"


def test_brakes_of_an_earlier_rollback_are_lifted(here: World, move: Any) -> None:
    here.engine.brakes = {FLAG: "b1", "qos_monitoring": "b2"}
    assert move(flags=(FLAG,))[0] == 0
    assert here.engine.brakes == {"qos_monitoring": "b2"}
    assert here.engine.flag(FLAG)["effective"] == 1.0


def test_full_is_entered_only_when_a_person_at_the_terminal_agrees() -> None:
    asked: list[str] = []

    def plan(stage: str) -> Any:
        after = {FLAG: Standing(stage=stage)}
        return Plan(store=None, known=None, before=None, after=after, facts=None)  # type: ignore[arg-type] - only what moves is looked at

    def order(answer: bool) -> Order:
        def confirm(question: str) -> bool:
            asked.append(question)
            return answer

        return Order(config=Path("c"), verdict=Path("v"), confirm=confirm)

    promote_cli._confirm(order(answer=False), plan("mid"))
    assert asked == []
    promote_cli._confirm(order(answer=True), plan("full"))
    with pytest.raises(PromotionRefusedError, match="confirmation"):
        promote_cli._confirm(order(answer=False), plan("full"))
    assert FLAG in asked[0]


def test_the_engines_are_kept_for_a_rollback_with_a_broken_file(here: World, move: Any) -> None:
    move(dry_run=True)
    here.config.write_text("[", "utf-8")
    assert known_engines(here.config, ()).urls == tuple(here.urls)


def test_on_a_branch_one_clone_promotes_and_another_rolls_back(
    here: World, move: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CI has one copy of the configuration, an operator another; the branch is the store."""
    bare = remote(tmp_path, here.config.read_text("utf-8"))
    here.write(store=f"git:{bare}#main")
    assert move(flags=(FLAG,), reason="all green")[0] == 0
    assert here.engine.flag(FLAG)["effective"] == 1.0
    operator = tmp_path / "operator" / "runtime.yaml"
    shutil.copytree(here.config.parent, operator.parent)
    assert rollback(RollbackOrder(config=operator, reason="cut answers"), as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["store"]["flags"] == {FLAG: {"from": "canary", "to": "off"}}
    assert here.engine.flag(FLAG)["effective"] == 0
    assert here.read().flags[FLAG].stage == "off"
    assert [r.event for r in open_store(here.config).history().records] == ["promote", "rollback"]
    assert move(flags=(FLAG,))[1]["refused"]["field"] == "sha256"
