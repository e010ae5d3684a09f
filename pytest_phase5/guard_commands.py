"""The commands that watch the rollout, and rehearse its rollback."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pytest_phase5.cli_options import ConfigPath, Json, confirmed


def watch(  # noqa: PLR0917 - one parameter an option
    config: ConfigPath = None,
    once: Annotated[
        bool, typer.Option("--once", help="Look once: exit 0 nothing to do, 10 hold, 20 rollback.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object for each poll.")] = False,
    host: Annotated[str, typer.Option(help="Where its own /metrics listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free port, and prints it.")] = 0,
    poll_seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds between two looks (default: 15).")
    ] = None,
    close_seconds: Annotated[
        float | None,
        typer.Option(min=1, max=90, help="A minute is judged so long after its end (default: 90)."),
    ] = None,
) -> None:
    """The guard: judges live traffic, rolls back by itself, renews the engines' leases."""
    from gates.guarding.cli import Options
    from gates.guarding.cli import watch as guard

    given = {"poll_seconds": poll_seconds, "close_seconds": close_seconds}
    options = Options(
        config=config,
        once=once,
        as_json=json,
        host=host,
        port=port,
        **{name: value for name, value in given.items() if value is not None},
    )
    raise typer.Exit(guard(options))


def drill(  # noqa: PLR0917 - one parameter an option
    config: ConfigPath = None,
    live: Annotated[
        bool, typer.Option("--live", help="On the engines of rollout.engines; asks first.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    model: Annotated[str, typer.Option(help="Of the scratch engines.")] = "tiny",
    engines: Annotated[int, typer.Option(min=1, help="Scratch engines.")] = 2,
    streams: Annotated[int, typer.Option(min=1, help="Live streams on all of them.")] = 75,
    report: Annotated[Path, typer.Option(help="Folder for the evidence.")] = Path("phase5-drill"),
    json: Json = False,
) -> None:
    """Rehearse a rollback under load and time it; exit 0 when it worked and lost nobody."""
    from gates.fleet import config_in_use
    from pytest_phase5.drill_cli import Order, run
    from pytest_phase5.drilling import Scratch

    scratch = Scratch(config=config_in_use(config), model=model, engines=engines, streams=streams)
    # Only a person at a terminal agrees without `--yes`.
    agree = (lambda _: True) if yes else partial(confirmed, unasked=False)
    order = Order(scratch=scratch, report=report, live=live, confirm=agree)
    raise typer.Exit(run(order, as_json=json))


def add_commands(app: typer.Typer) -> None:
    """Make them commands of a program."""
    for command in (watch, drill):
        app.command()(command)
