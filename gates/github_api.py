"""The four calls to GitHub's API that a rollout makes: deployments, their states, and dispatches.

actions-toolkit brings a client that knows one server only and no time limit; these few calls are
made directly. A deployment is a note of what happened. It moves nothing, and where it cannot be
written the move stands all the same.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlsplit

from gates.github import GithubError

#: Seconds for one call.
SECONDS: Final = 10.0

#: Where it is unless the runner says otherwise.
_API: Final = "https://api.github.com"

#: Characters of a description that GitHub keeps.
_DESCRIPTION: Final = 140

_REPOSITORY: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]*[A-Za-z0-9_-]")
_WORKFLOW: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*\.ya?ml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository, and the right to act on it.

    Attributes:
        name: `OWNER/NAME`.
        token: of the job or of an app.
        api: base URL of the API.

    Raises:
        GithubError: the address is not https, and a token would be readable.
    """

    name: str
    token: str = field(repr=False)
    api: str = _API

    def __post_init__(self) -> None:
        if not _REPOSITORY.fullmatch(self.name):
            raise GithubError(f"repository {self.name!r}; allowed: OWNER/NAME")
        if not self.token:
            raise GithubError(f"{self.name}: no token")
        parts = urlsplit(self.api)
        if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
            raise GithubError(f"{self.api}: a token goes over https only")

    @classmethod
    def of_job(cls, token: str, environment: Mapping[str, str] = os.environ) -> "Repository":
        """The repository whose workflow runs here.

        Raises:
            GithubError: no workflow runs here, or there is no token.
        """
        api = environment.get("GITHUB_API_URL") or _API
        return cls(name=environment.get("GITHUB_REPOSITORY", ""), token=token, api=api)

    def dispatch(self, workflow: str, ref: str, inputs: Mapping[str, str]) -> None:
        """Start a workflow that listens to `workflow_dispatch`.

        Raises:
            GithubError: not such a file name, or GitHub did not take it.
        """
        if not _WORKFLOW.fullmatch(workflow):
            raise GithubError(f"workflow {workflow!r}; allowed: a file name such as rollback.yml")
        path = f"actions/workflows/{workflow}/dispatches"
        self._call("POST", path, {"ref": ref, "inputs": dict(inputs)})

    def deploy(self, environment: str, ref: str, description: str) -> int:
        """Note a deployment; returns its number.

        Raises:
            GithubError: GitHub did not take it.
        """
        body = {
            "ref": ref,
            "task": "rollout",
            "auto_merge": False,
            "required_contexts": [],
            "environment": environment,
            "description": description[:_DESCRIPTION],
        }
        number = self._call("POST", "deployments", body).get("id")
        if not isinstance(number, int):
            raise GithubError(f"{self.name}: deployments: an answer without a number")
        return number

    def set_state(self, deployment: int, state: str, description: str, log_url: str = "") -> None:
        """Say what became of a deployment: `success`, `failure`, `inactive`, ...

        Raises:
            GithubError: GitHub did not take it.
        """
        body = {"state": state, "description": description[:_DESCRIPTION], "log_url": log_url}
        self._call("POST", f"deployments/{deployment}/statuses", body)

    def latest(self, environment: str) -> int | None:
        """The newest deployment to an environment, if there is one.

        Raises:
            GithubError: GitHub does not say.
        """
        name = quote(environment, safe="")
        found = self._call("GET", f"deployments?environment={name}&per_page=1", None)
        numbers = [item["id"] for item in found] if isinstance(found, list) else []
        return numbers[0] if numbers else None

    def _call(self, method: str, path: str, body: Any) -> Any:
        import httpx

        url = f"{self.api}/repos/{self.name}/{path}"
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        try:
            answer = httpx.request(method, url, json=body, headers=headers, timeout=SECONDS)
            if not answer.is_success:
                raise GithubError(
                    f"{method} {url}: {answer.status_code} {_message(answer)}".strip()
                )
            return {} if answer.status_code == HTTPStatus.NO_CONTENT else answer.json()
        except (httpx.HTTPError, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise GithubError(f"{method} {url}: {reason}") from error


def _message(answer: Any) -> str:
    """What GitHub says of a refusal, on one line."""
    try:
        return " ".join(str(answer.json()["message"]).split())[:200]
    except (ValueError, KeyError, TypeError):
        return ""
