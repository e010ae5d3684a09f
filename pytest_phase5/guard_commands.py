"""The commands that watch the rollout, and rehearse its rollback."""

from typing import Annotated

import typer

from pytest_phase5.cli_options import ConfigPath

#: As `gates.guarding.cli`, which is not loaded for `--help`.
_POLL_SECONDS = 15.0
_CLOSE_SECONDS = 90.0


def watch(  # noqa: PLR0917 - one parameter an option
    config: ConfigPath = None,
    once: Annotated[
        bool, typer.Option("--once", help="Look once: exit 0 nothing to do, 10 hold, 20 rollback.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object for each poll.")] = False,
    host: Annotated[str, typer.Option(help="Where its own /metrics listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free port, and prints it.")] = 0,
    poll_seconds: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two looks.")
    ] = _POLL_SECONDS,
    close_seconds: Annotated[
        float,
        typer.Option(min=1, max=90, help="A minute is judged so long after its end."),
    ] = _CLOSE_SECONDS,
) -> None:
    """The guard: judges live traffic, rolls back by itself, renews the engines' leases."""
    from gates.guarding.cli import Options
    from gates.guarding.cli import watch as guard

    options = Options(
        config=config,
        once=once,
        as_json=json,
        host=host,
        port=port,
        poll_seconds=poll_seconds,
        close_seconds=close_seconds,
    )
    raise typer.Exit(guard(options))


def add_commands(app: typer.Typer) -> None:
    """Make them commands of a program."""
    app.command()(watch)
