"""Every command line in the runbooks and the README is one that the program has."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pytest_phase5.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "phase5" / "runbooks").glob("*.md"))]
#: A command in a line of a code block, or between backticks.
CALL = re.compile(r"(?:^\s*|`)(phase5 [a-z][^`#\n]*)", re.MULTILINE)


def calls() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for found in CALL.finditer(page.read_text(encoding="utf-8")):
            yield page.name, found.group(1).strip()


@pytest.mark.parametrize(("page", "call"), sorted(set(calls())))
def test_a_command_of_a_page_exists_with_its_options(page: str, call: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(call)[1:]
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, f"{page}: {call}"
        command = command.commands[words.pop(0)]
    known = {name for parameter in command.params for name in parameter.opts}
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert given <= known, f"{page}: {call}"


def test_the_pages_name_the_commands_that_move_a_rollout() -> None:
    named = {call.split()[1] for _, call in calls()}
    assert {"status", "promote", "rollback", "hold", "resume", "approve"} <= named
