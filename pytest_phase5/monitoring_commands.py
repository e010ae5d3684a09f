"""`phase5 monitoring`: the files of Prometheus and Alertmanager, made from the gates' limits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from pytest_phase5.cli_options import ConfigPath, Json

if TYPE_CHECKING:
    from gates.monitoring.files import Setting

Folder = Annotated[Path, typer.Argument(help="Where the files are.")]
Guards = Annotated[list[str] | None, typer.Option("--guard", help="HOST:PORT; again for more.")]
Alertmanagers = Annotated[
    list[str] | None, typer.Option("--alertmanager", help="HOST:PORT; again for more.")
]
Runbooks = Annotated[
    str, typer.Option(help="What stands before the path of a runbook: your copy's address.")
]
Check = Annotated[
    bool, typer.Option("--check", help="Write nothing; exit 1 where a file is not as it has to be.")
]
WindowScale = Annotated[
    float, typer.Option(min=1e-5, max=1, help="For rehearsals: shortens every window alike.")
]


class Hosts(NamedTuple):
    """HOST:PORT of what the command line named; none stands for the defaults."""

    guards: Sequence[str]
    alertmanagers: Sequence[str]


def add_commands(app: typer.Typer) -> None:
    """Make it a command of a program."""
    app.command()(monitoring)


def monitoring(  # noqa: PLR0917 - one parameter an option
    folder: Folder = Path("config/prometheus"),
    config: ConfigPath = None,
    guard: Guards = None,
    alertmanager: Alertmanagers = None,
    runbooks: Runbooks = "",
    window_scale: WindowScale = 1.0,
    check: Check = False,
    json: Json = False,
) -> None:
    """Write rules, alerts and routes for Prometheus and Alertmanager, made from gates.yaml."""
    from gates.exits import DONE, ERROR, say, say_json

    hosts = Hosts(guard or [], alertmanager or [])
    wanted = _wanted(config, hosts, runbooks, window_scale, as_json=json)
    paths = _stale(folder, wanted) if check else _written(folder, wanted, as_json=json)
    named = [str(path) for path in paths]
    if json:
        say_json({"stale" if check else "written": named})
    else:
        for path in named:
            say(f"{path}: not what the configuration makes; run without --check" if check else path)
    raise typer.Exit(ERROR if check and named else DONE)


def _stale(folder: Path, wanted: Mapping[str, str]) -> list[Path]:
    from pytest_phase5.generated import differing

    return [folder / name for name in differing(folder, wanted)]


def _written(folder: Path, wanted: Mapping[str, str], *, as_json: bool) -> list[Path]:
    from gates.exits import ERROR, refuse
    from pytest_phase5.generated import put

    try:
        return put(folder, wanted, wanted)
    except OSError as error:
        message = f"phase5 monitoring: {error.filename or folder}: {error.strerror}"
        raise typer.Exit(refuse(message, ERROR, as_json=as_json)) from error


def _wanted(
    config: Path | None, hosts: Hosts, runbooks: str, scale: float, *, as_json: bool
) -> dict[str, str]:
    from engine.config import ConfigError
    from gates.exits import USAGE, refuse
    from gates.monitoring.files import files

    try:
        return files(_setting(config, hosts, runbooks, scale))
    except (ConfigError, ValueError) as error:
        raise typer.Exit(refuse(f"phase5 monitoring: {error}", USAGE, as_json=as_json)) from error


def _setting(config: Path | None, hosts: Hosts, runbooks: str, scale: float) -> "Setting":
    from urllib.parse import urlsplit

    from engine.config import load_config
    from gates.fleet import config_in_use
    from gates.monitoring.files import (
        ALERTMANAGER_TARGET,
        ENGINE_TARGET,
        GUARD_TARGET,
        Setting,
    )
    from gates.monitoring.rules import INTERVAL, SHORTEST_INTERVAL, Clock, Limits
    from gates.policy import policy_beside

    path = config_in_use(config)
    loaded = load_config(path)
    rollout = loaded.rollout
    engines = [urlsplit(url) for url in rollout.engines]
    schemes = {engine.scheme for engine in engines} or {"http"}
    if len(schemes) > 1:
        raise ValueError(
            f"{path}: rollout.engines speak {' and '.join(sorted(schemes))}; allowed: one of them,"
            " since one scrape job has one"
        )
    return Setting(
        limits=Limits(
            policy=policy_beside(path), leases=rollout.lease_seconds, slos=loaded.qos.policies
        ),
        engines=[engine.netloc for engine in engines] or [ENGINE_TARGET],
        scheme=schemes.pop(),
        ca=rollout.ca,
        guards=hosts.guards or [GUARD_TARGET],
        alertmanagers=hosts.alertmanagers or [ALERTMANAGER_TARGET],
        clock=Clock(scale, max(INTERVAL * scale, SHORTEST_INTERVAL)),
        runbooks=runbooks,
    )
