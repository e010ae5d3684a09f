"""`phase5 dashboards`: Grafana's pages with the limits of one's own gates.yaml."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_phase5.cli_options import ConfigInUse, Json

if TYPE_CHECKING:
    from collections.abc import Mapping


def dashboards(
    folder: Annotated[Path, typer.Argument(help="Where Grafana looks for them.")] = Path(
        "config/grafana/dashboards"
    ),
    config: ConfigInUse = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 unless all are current.")
    ] = False,
    json: Json = False,
) -> None:
    """Write the Grafana dashboards, with the limits of gates.yaml drawn into them."""
    from gates.exits import DONE, ERROR, refuse, say, say_json

    texts = _made(config, as_json=json)
    from pytest_phase5.dashboards.files import stale, write

    try:
        found = stale(folder, texts) if check else write(folder, texts)
    except OSError as error:
        message = f"{error.filename}: cannot be written: {error.strerror}"
        raise typer.Exit(refuse(message, ERROR, as_json=json)) from error
    word = "stale" if check else "written"
    if json:
        say_json({"files": sorted(texts), word: [str(path) for path in found]})
    else:
        for path in found:
            say(f"{word} {path}")
        say(f"{len(texts)} dashboards in {folder}, {len(found)} {word}")
    raise typer.Exit(ERROR if check and found else DONE)


def add_commands(app: typer.Typer) -> None:
    """Make it a command of a program."""
    app.command()(dashboards)


def _made(config: Path | None, *, as_json: bool) -> "Mapping[str, str]":
    from engine.config import ConfigError
    from gates.exits import ERROR, USAGE, refuse
    from gates.policy import policy_beside

    if find_spec("grafana_foundation_sdk") is None:
        message = "phase5 dashboards needs the extra: pip install 'pytest-phase5[grafana]'"
        raise typer.Exit(refuse(message, ERROR, as_json=as_json))
    from pytest_phase5.dashboards.files import files

    try:
        return files(policy_beside(config))
    except ConfigError as error:
        raise typer.Exit(refuse(str(error), USAGE, as_json=as_json)) from error
