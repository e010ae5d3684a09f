"""A hand that may not push has `rollback.yml` write the rollback."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fake_github import FakeGithub, answering
from gate_builders import policy

from gates.dispatching import dispatch_rollback
from gates.guarding.acting import Deeds, rollback
from gates.guarding.journal import Journal, opened
from gates.guarding.situation import Record
from gates.rollback_store import Change, write_rollback
from gates.standing import Cause
from gates.store import StoreError, open_store

WHERE = "git:https://github.com/acme/rollout.git#rollout"
PATH = "/repos/acme/rollout/actions/workflows/rollback.yml/dispatches"


@pytest.fixture
def fake() -> Iterator[FakeGithub]:
    with answering(FakeGithub(status=204)) as github:
        yield github


@pytest.mark.parametrize(
    "where",
    [
        WHERE,
        "git:https://github.com/acme/rollout#rollout",
        "git:git@github.com:acme/rollout.git#rollout",
        "git:ssh://git@github.com/acme/rollout.git#rollout",
    ],
)
def test_the_workflow_of_the_stores_repository_is_asked(fake: FakeGithub, where: str) -> None:
    known = {"PHASE5_GITHUB_TOKEN": "t", "GITHUB_API_URL": fake.url, "PHASE5_GITHUB_REF": "stable"}
    told = dispatch_rollback(where, ("ttft_pipeline",), "errors", known)
    assert told == "rollback.yml of acme/rollout was asked to write it"
    inputs = {"flags": "ttft_pipeline", "reason": "errors"}
    assert fake.asked == [("POST", PATH, {"ref": "stable", "inputs": inputs})]


def test_every_flag_is_all_and_the_branch_is_main(fake: FakeGithub) -> None:
    known = {"PHASE5_GITHUB_TOKEN": "t", "GITHUB_API_URL": fake.url}
    dispatch_rollback(WHERE, (), "errors", known)
    assert fake.asked[0][2] == {"ref": "main", "inputs": {"flags": "all", "reason": "errors"}}


@pytest.mark.parametrize("where", ["file:config/runtime.yaml", "git:../origin.git#main", ""])
def test_a_store_that_is_not_on_a_server_has_no_workflow(fake: FakeGithub, where: str) -> None:
    known = {"PHASE5_GITHUB_TOKEN": "t", "GITHUB_API_URL": fake.url}
    assert dispatch_rollback(where, (), "errors", known) == ""
    assert dispatch_rollback(WHERE, (), "errors", {"GITHUB_API_URL": fake.url}) == ""
    assert fake.asked == []


def test_a_refusal_is_told(fake: FakeGithub) -> None:
    fake.status, fake.answer = 403, {"message": "no"}
    known = {"PHASE5_GITHUB_TOKEN": "t", "GITHUB_API_URL": fake.url}
    assert "could not be asked for it" in dispatch_rollback(WHERE, (), "errors", known)


@pytest.fixture
def unreachable(tmp_path: Path, fake: FakeGithub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration whose store no Git reaches, and a token for its workflow."""
    monkeypatch.setenv("PHASE5_GITHUB_TOKEN", "t")
    monkeypatch.setenv("GITHUB_API_URL", fake.url)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{tmp_path / 'gone'}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/acme/rollout.git")
    config = tmp_path / "runtime.yaml"
    config.write_text(f"rollout: {{store: '{WHERE}'}}\n", "utf-8")
    return config


def test_a_rollback_by_hand_goes_this_way_when_the_store_is_out_of_reach(
    unreachable: Path, fake: FakeGithub
) -> None:
    change = Change(
        flags=("ttft_pipeline",),
        cause=Cause.MANUAL,
        reason="errors",
        who="me",
        candidate="",
        brakes={},
    )
    assert "was asked to write it" in write_rollback(unreachable, change).trouble
    assert len(fake.asked) == 1


def test_the_guard_asks_once_and_goes_on_trying(unreachable: Path, fake: FakeGithub) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    journal = Journal.open(unreachable.parent)
    deeds = Deeds(policy=policy(), store=open_store(unreachable), journal=journal)
    each = rollback({"ttft_pipeline": 1}, Cause.VERDICT, "errors", now)
    journal.write(opened(each))
    for asked in ("; rollback.yml of acme/rollout was asked", "git fetch"):
        with pytest.raises(StoreError, match=asked):
            deeds.record(Record(pending=each.id, flags=("ttft_pipeline",)), now)
    assert len(fake.asked) == 1
