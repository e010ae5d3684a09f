"""Deployments as a record of the rollout: one environment for each stage.

They move nothing. What cannot be noted is said as a warning, and the move stands.
"""

import os
from collections.abc import Callable, Mapping

from gates.github import GithubError, Level, annotate
from gates.github_api import Repository
from gates.stages import OFF

#: A flag's stage before and after.
Moves = Mapping[str, tuple[str, str]]


def environment_of(stage: str) -> str:
    """GitHub's environment of a stage; its protection rules are the operator's."""
    return f"rollout-{stage}"


def note_promotion(token: str, moves: Moves) -> None:
    """A successful deployment for each stage that was entered."""

    def note(repository: Repository) -> None:
        commit = os.environ.get("GITHUB_SHA", "")
        for stage in sorted({target for _, target in moves.values()}):
            entered = [flag for flag, (_, target) in moves.items() if target == stage]
            text = f"{', '.join(entered)} at {stage}"
            deployment = repository.deploy(environment_of(stage), commit, text)
            repository.set_state(deployment, "success", text, _run())

    _try(token, moves, note)


def note_rollback(token: str, moves: Moves) -> None:
    """The newest deployment of each stage that was left is no longer active."""

    def note(repository: Repository) -> None:
        for stage in sorted({origin for origin, _ in moves.values()} - {OFF}):
            deployment = repository.latest(environment_of(stage))
            if deployment is not None:
                left = [flag for flag, (origin, _) in moves.items() if origin == stage]
                text = f"{', '.join(left)} rolled back"
                repository.set_state(deployment, "inactive", text, _run())

    _try(token, moves, note)


def _try(token: str, moves: Moves, note: Callable[[Repository], None]) -> None:
    if not moves or not token:
        return
    try:
        note(Repository.of_job(token))
    except GithubError as error:
        annotate(Level.WARNING, f"deployment not noted: {error}", title="phase5")


def _run() -> str:
    names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    server, repository, run = (os.environ.get(name, "") for name in names)
    return f"{server}/{repository}/actions/runs/{run}" if server and repository and run else ""
