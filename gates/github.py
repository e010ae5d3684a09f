"""How a step of a workflow speaks to GitHub Actions: outputs, summary, annotations, masks.

Outputs, annotations and masks go through actions-toolkit, which escapes commands and sets values
apart by a delimiter that nobody can guess. It has no call for the summary. Whatever a test,
an engine or a person wrote may stand in a value here; none of it may become a command, another
output or markup.
"""

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from html import escape
from pathlib import Path
from typing import Final

#: What GitHub takes for one step.
SUMMARY_BYTES: Final = 1024 * 1024

#: Stands where a summary was cut.
_CUT: Final = "\n\nThe rest is in the artifact: a step's summary ends at 1 MiB.\n"

#: Names of outputs: what workflows can refer to, and nothing that ends a line.
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")

#: Characters that Markdown reads as markup. `@` would call people, `#` would refer to issues.
_MARKUP: Final = re.compile(r"([\\`*_{}\[\]()#+!|~@:-])")

#: Files through which a step speaks, and what it may do with its job's rights. A program that
#: is only measured gets none of them.
_OURS: Final = (
    "GITHUB_OUTPUT",
    "GITHUB_ENV",
    "GITHUB_PATH",
    "GITHUB_STATE",
    "GITHUB_STEP_SUMMARY",
    "GITHUB_TOKEN",
    "ACTIONS_RUNTIME_TOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
)


class GithubError(RuntimeError):
    """GitHub, or the step's way to it, does not do what is needed. One line, no secret."""


class Level(StrEnum):
    """How loud an annotation is."""

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


def get_input(name: str, default: str = "") -> str:
    """An input of the action, as its step hands it over: `INPUT_NAME` in the environment."""
    from actions_toolkit import core

    given: str = core.get_input(name)
    return given or default


def set_output(name: str, value: str) -> None:
    """Set an output of the step.

    Raises:
        GithubError: not such a name, or there is nowhere to write it. Printing it instead, as
            was done once, would let any program of the step set outputs.
    """
    from actions_toolkit import core

    if not _NAME.fullmatch(name):
        raise GithubError(f"output {name!r}; allowed: letters, digits, '_' and '-'")
    if not os.environ.get("GITHUB_OUTPUT"):
        raise GithubError(f"output {name!r}: GITHUB_OUTPUT names no file")
    core.set_output(name, value)


def annotate(
    level: Level, message: str, *, title: str = "", file: str = "", line: int | None = None
) -> None:
    """A note at a line of a file, shown in the run and in the pull request."""
    from actions_toolkit.command import issue_command

    # `core.error` writes properties that were not given as empty ones: `endLine=,col=`.
    place = {"title": title, "file": file, "line": str(line) if line and file else ""}
    properties = {key: text for key, text in place.items() if text}
    issue_command(level.value, properties, message)


def mask(secret: str) -> None:
    """Have GitHub show `***` for a text from here on."""
    from actions_toolkit import core

    if secret:
        core.set_secret(secret)


def add_summary(markdown: str) -> None:
    """Append to the step's summary, as far as it still fits; nothing where there is none."""
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return
    path = Path(name)
    room = SUMMARY_BYTES - (path.stat().st_size if path.exists() else 0)
    with path.open("ab") as file:
        file.write(_fitted(f"{markdown}\n", room))


def plain(text: str) -> str:
    """A text as one line of Markdown that shows as it is written, also in a table."""
    return _MARKUP.sub(r"\\\1", escape(" ".join(text.split()), quote=False))


def without_ours(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for a program that must not speak for the step."""
    return {
        key: value
        for key, value in environment.items()
        if key not in _OURS and not key.startswith("INPUT_")
    }


@contextmanager
def commands_stopped() -> Iterator[None]:
    """A block in which nothing that is printed is taken for a command of ours."""
    from actions_toolkit.command import issue

    token = secrets.token_hex(16)
    issue("stop-commands", token)
    try:
        yield
    finally:
        issue(token)


def _fitted(text: str, room: int) -> bytes:
    data = text.encode()
    if len(data) <= room:
        return data
    kept = data[: max(room - len(_CUT), 0)].decode(errors="ignore")
    return (kept + _CUT).encode()[: max(room, 0)]
