"""`phase5 report`: a report folder as one page and as Markdown."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pytest_phase5.cli_options import ConfigInUse, Json

if TYPE_CHECKING:
    from pytest_phase5.reporting.writing import Written


def report(
    folder: Annotated[Path, typer.Argument(help="A report folder.")] = Path("phase5-report"),
    config: ConfigInUse = None,
    json: Json = False,
) -> None:
    """Write report.html and summary.md into a report folder; exit 1 where it has no verdict."""
    from gates.exits import DONE, ERROR, say, say_json
    from pytest_phase5.reporting.headline import NO_VERDICT

    written = _written(folder, config, as_json=json)
    if json:
        say_json(_document(written))
    else:
        head = written.view.headline
        say(f"{head.word}: {head.subject}")
        for warning in head.warnings:
            say(warning)
        for path in written.files:
            say(str(path))
        for command in head.commands:
            say(f"next: {command}")
    raise typer.Exit(ERROR if written.view.headline.word == NO_VERDICT else DONE)


def add_commands(app: typer.Typer) -> None:
    """Make it a command of a program."""
    app.command()(report)


def _written(folder: Path, config: Path | None, *, as_json: bool) -> "Written":
    from engine.config import ConfigError
    from gates.exits import ERROR, USAGE, refuse
    from gates.policy import policy_beside
    from pytest_phase5.reporting.writing import write_report

    if not folder.is_dir():
        message = f"phase5 report: {folder}: no such folder; wanted: one that a gate wrote"
        raise typer.Exit(refuse(message, USAGE, as_json=as_json))
    try:
        return write_report(folder, policy_beside(config))
    except ConfigError as error:
        raise typer.Exit(refuse(str(error), USAGE, as_json=as_json)) from error
    except OSError as error:
        message = f"{error.filename}: cannot be written: {error.strerror}"
        raise typer.Exit(refuse(message, ERROR, as_json=as_json)) from error


def _document(written: "Written") -> dict[str, Any]:
    head = written.view.headline
    return {
        "verdict": head.word,
        "warnings": list(head.warnings),
        "commands": list(head.commands),
        "files": [str(path) for path in written.files],
    }
