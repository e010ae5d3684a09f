"""Who acts: what the history keeps of the hand behind a command."""

import getpass
import os
import socket


def who() -> str:
    """`user@host`; in a workflow of GitHub its actor and run."""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        names = ("GITHUB_ACTOR", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
        actor, repository, run = (os.environ.get(name, "unknown") for name in names)
        return f"{actor} ({repository} run {run})"
    return f"{_user()}@{socket.gethostname()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        return f"uid {os.getuid()}"
