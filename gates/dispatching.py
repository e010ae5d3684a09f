"""A rollback by way of `rollback.yml`: for a hand that brakes engines and may not push.

With a Git store only CI promotes, by push rights, so a guard often has none. With
`PHASE5_GITHUB_TOKEN` (right: actions, write) it asks the repository's own workflow to write down
what the engines have done already.
"""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Final

from gates.github import GithubError
from gates.github_api import Repository

TOKEN: Final = "PHASE5_GITHUB_TOKEN"  # noqa: S105 - the variable's name

#: The branch whose workflow is run.
REF: Final = "PHASE5_GITHUB_REF"

WORKFLOW: Final = "rollback.yml"

#: `git:https://HOST/OWNER/NAME[.git]#BRANCH`, or the same over SSH.
_WHERE: Final = re.compile(
    r"git:(?:https://|ssh://git@|git@)([\w.-]+)[/:]([\w.-]+/[\w.-]+?)(?:\.git)?#.*"
)


def dispatch_rollback(
    where: str,
    flags: Iterable[str],
    reason: str,
    environment: Mapping[str, str] = os.environ,
) -> str:
    """Ask for it; returns what came of that, and an empty text where nobody set this up.

    Args:
        where: the store, as it calls itself.
        flags: to roll back; none: every flag.
        reason: for the history.
        environment: has the token, and may have the branch and the API's base URL.
    """
    token, found = environment.get(TOKEN, ""), _WHERE.fullmatch(where)
    if not token or found is None:
        return ""
    host, name = found.groups()
    usual = "https://api.github.com" if host == "github.com" else f"https://{host}/api/v3"
    inputs = {"flags": ",".join(flags) or "all", "reason": reason}
    try:
        api = environment.get("GITHUB_API_URL") or usual
        repository = Repository(name=name, token=token, api=api)
        repository.dispatch(WORKFLOW, environment.get(REF) or "main", inputs)
    except GithubError as error:
        return f"and {WORKFLOW} could not be asked for it: {error}"
    return f"{WORKFLOW} of {name} was asked to write it"
