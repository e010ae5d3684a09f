"""The right to push, for as long as a move takes, and whether the checkout is still the newest."""

import os
import subprocess
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Final

from gates.github import GithubError, mask

#: Seconds to ask the remote where a branch stands.
_SECONDS: Final = 15.0

_TOKEN: Final = "PHASE5_PUSH_TOKEN"  # noqa: S105 - the variable's name

#: What Git runs to be told name and password. The token stays in the environment: a command line
#: could be read by every process of the machine, a configuration file outlives the step.
_HELPER: Final = (
    '!f() { test "$1" = get && printf "username=x-access-token\\npassword=%s\\n" "$'
    + _TOKEN
    + '"; }; f'
)


@contextmanager
def pushing(token: str, environment: MutableMapping[str, str]) -> Iterator[None]:
    """Let Git push to GitHub's server with a token, until the end of the block."""
    if not token:
        yield
        return
    mask(token)
    before = dict(environment)
    server = environment.get("GITHUB_SERVER_URL") or "https://github.com"
    key = f"credential.{server}.helper"
    count = int(environment.get("GIT_CONFIG_COUNT") or 0)
    # The empty one makes Git forget helpers that were configured elsewhere.
    for number, value in enumerate(("", _HELPER), count):
        environment[f"GIT_CONFIG_KEY_{number}"] = key
        environment[f"GIT_CONFIG_VALUE_{number}"] = value
    environment["GIT_CONFIG_COUNT"] = str(count + 2)
    environment[_TOKEN] = token
    try:
        yield
    finally:
        for name in set(environment) - set(before):
            del environment[name]
        environment.update(before)


def newest(environment: Mapping[str, str]) -> None:
    """Insist that the branch still stands where this run began.

    A promotion acts by the newest policy and the newest workflow: both stand in the repository,
    and may have been made stricter while it waited for its verdict or an approval.

    Raises:
        GithubError: the branch has moved, or the remote does not say.
    """
    commit, ref = environment.get("GITHUB_SHA", ""), environment.get("GITHUB_REF", "")
    if not commit or not ref.startswith("refs/heads/"):
        raise GithubError(f"promotions run on a branch; given ref {ref!r}, commit {commit!r}")
    try:
        done = subprocess.run(  # noqa: S603 - a list of arguments, no shell
            ["git", "ls-remote", "--exit-code", "origin", ref],  # noqa: S607 - as installed
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
            capture_output=True,
            text=True,
            check=True,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise GithubError(f"{ref}: the remote does not say where it stands: {error}") from error
    tip = done.stdout.split()[0]
    if tip != commit:
        raise GithubError(f"{ref} moved: given {commit}, wanted {tip}, the newest")
