"""Deployments and dispatches: what is asked of GitHub, and what a refusal says."""

from collections.abc import Iterator

import pytest
from fake_github import FakeGithub, answering

from gates.actions.deployments import note_promotion, note_rollback
from gates.github import GithubError
from gates.github_api import Repository

TOKEN, NONE = "secret-token", ""


@pytest.fixture
def fake() -> Iterator[FakeGithub]:
    with answering(FakeGithub()) as github:
        yield github


@pytest.fixture
def repository(fake: FakeGithub) -> Repository:
    return Repository(name="acme/rollout", token=TOKEN, api=fake.url)


def test_a_dispatch_names_branch_and_inputs(fake: FakeGithub, repository: Repository) -> None:
    fake.status = 204
    repository.dispatch("rollback.yml", "main", {"reason": "errors", "flags": "all"})
    assert fake.asked == [
        (
            "POST",
            "/repos/acme/rollout/actions/workflows/rollback.yml/dispatches",
            {"ref": "main", "inputs": {"reason": "errors", "flags": "all"}},
        )
    ]
    assert fake.authorizations == {f"Bearer {TOKEN}"}


def test_a_deployment_gets_a_state(fake: FakeGithub, repository: Repository) -> None:
    number = repository.deploy("rollout-canary", "c0ffee", "x" * 300)
    repository.set_state(number, "success", "fine", "https://github.com/acme/rollout")
    (created,) = fake.calls("POST", "/deployments")
    assert (created["ref"], created["environment"]) == ("c0ffee", "rollout-canary")
    assert (created["auto_merge"], created["required_contexts"]) == (False, [])
    assert len(created["description"]) == 140
    assert fake.asked[1][1] == "/repos/acme/rollout/deployments/7/statuses"


@pytest.mark.parametrize("workflow", ["../x.yml", "a/b.yml", "rollback", "x.yml?ref=1"])
def test_a_workflow_that_is_no_file_name_is_refused(
    fake: FakeGithub, repository: Repository, workflow: str
) -> None:
    with pytest.raises(GithubError, match="allowed"):
        repository.dispatch(workflow, "main", {})
    assert fake.asked == []


@pytest.mark.parametrize("name", ["", "acme", "acme/a/b", "../..", "acme/a b"])
def test_a_repository_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(GithubError, match="OWNER/NAME"):
        Repository(name=name, token=TOKEN)


def test_a_token_goes_over_https_only() -> None:
    with pytest.raises(GithubError, match="https only"):
        Repository(name="a/b", token=TOKEN, api="http://github.example.org")
    with pytest.raises(GithubError, match="no token"):
        Repository(name="a/b", token=NONE)


def test_a_refusal_says_what_github_said_and_not_the_token(
    fake: FakeGithub, repository: Repository
) -> None:
    fake.status, fake.answer = 403, {"message": "Resource not accessible\nby integration"}
    with pytest.raises(GithubError, match="403 Resource not accessible by integration") as raised:
        repository.deploy("rollout-canary", "c0ffee", "x")
    assert TOKEN not in str(raised.value) + repr(repository)


def test_an_api_that_is_not_there_is_an_error() -> None:
    with answering(FakeGithub()) as gone:
        url = gone.url
    with pytest.raises(GithubError, match="deployments"):
        Repository(name="a/b", token=TOKEN, api=url).deploy("e", "r", "d")


def test_a_deployment_that_cannot_be_noted_is_a_warning(
    fake: FakeGithub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_REPOSITORY", "acme/rollout")
    monkeypatch.setenv("GITHUB_API_URL", fake.url)
    fake.status, fake.answer = 500, {}
    note_promotion("t", {"ttft_pipeline": ("off", "canary")})
    note_rollback("t", {"ttft_pipeline": ("canary", "off")})
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("title")[0] for line in lines] == ["::warning "] * 2


def test_what_did_not_move_or_has_no_token_is_not_noted(
    fake: FakeGithub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_REPOSITORY", "acme/rollout")
    monkeypatch.setenv("GITHUB_API_URL", fake.url)
    note_promotion("t", {})
    note_promotion("", {"ttft_pipeline": ("off", "canary")})
    note_rollback("t", {"ttft_pipeline": ("off", "off")})
    assert fake.asked == []
