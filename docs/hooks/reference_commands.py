"""Every command of `phase5` with its arguments, options and exit statuses."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer
from reference_tables import code, first, table
from typer.core import TyperArgument

from pytest_phase5.cli import app

#: What holds where a command's own help says nothing else.
USUAL: Final = "0 done, 1 error, 2 usage or configuration"

#: How the value of an option is called.
KINDS: Final = {
    str: "TEXT",
    list[str]: "TEXT",
    int: "INTEGER",
    list[int]: "INTEGER",
    float: "NUMBER",
    Path: "PATH",
}


def commands() -> str:
    """A section for each, in the order of their names."""
    return "\n\n".join(section(name, command) for name, command in sorted(leaves()))


def leaves(command: Any = None, name: str = "phase5") -> Iterator[tuple[str, Any]]:
    """The commands that do something, each with all the words that call it."""
    command = typer.main.get_command(app) if command is None else command
    for word, below in getattr(command, "commands", {}).items():
        if hasattr(below, "commands"):
            yield from leaves(below, f"{name} {word}")
        else:
            yield f"{name} {word}", below


def section(name: str, command: Any) -> str:
    """One command."""
    parameters = [parameter(each) for each in command.params]
    parts = [
        f"## {name}",
        first(command.help),
        table(("parameter", "default", "meaning"), parameters) if parameters else "No parameters.",
        f"Exit status: {exits(command.help)}.",
    ]
    return "\n\n".join(parts)


def parameter(declared: Any) -> tuple[str, str, str]:
    """The row of an option or argument."""
    if isinstance(declared, TyperArgument):
        name = declared.name.upper()
    elif declared.is_flag:
        name = ", ".join(declared.opts)
    else:
        name = f"{', '.join(declared.opts)} {KINDS[declared.type_descriptor.annotation]}"
    return code(name), default(declared), declared.help or ""


def default(declared: Any) -> str:
    """What holds when it is not given."""
    if declared.required:
        return "required"
    given = declared.default
    return "" if given is None or given is False or given in {"", ()} else code(given)


def exits(text: str) -> str:
    """What a command's help says about its exit status, else what is usual."""
    found = re.search(r"\bexit (\d.*?|as .*?)\.?$", " ".join(text.split()))
    if found is None:
        return USUAL
    clause = f"0 done, {found[1]}" if found[1].startswith("1 ") else found[1]
    whole = clause if re.search(r"\b10?\b|^as ", clause) else f"{clause}, else 1"
    return f"{whole}; 2 usage or configuration"
