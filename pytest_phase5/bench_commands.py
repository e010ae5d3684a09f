"""The command that measures this engine beside what a user would run instead."""

from math import inf
from pathlib import Path
from typing import Annotated

import typer

from pytest_phase5.cli_options import Json


def bench(  # noqa: PLR0917 - one parameter an option
    model: Annotated[
        str, typer.Option(help="A built-in name, a directory, or a Hugging Face id.")
    ] = "tiny",
    workload: Annotated[
        list[str] | None,
        typer.Option(
            help="chat, shared, unshared, mixed, talks, overload, storm or lengths; may be "
            "repeated (default: all)."
        ),
    ] = None,
    streams: Annotated[
        list[int] | None,
        typer.Option(help="At once; may be repeated (default: those of each workload)."),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(help="peer, peer-wide, off or on; may be repeated (default: all)."),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Of each arm in each comparison.")] = 5,
    seconds: Annotated[
        float, typer.Option(help="From the start; then no further round begins (default: none).")
    ] = inf,
    limit: Annotated[
        list[int] | None,
        typer.Option(
            help="Also tokens a second over HTTP beside the adapter alone, at so many streams; "
            "may be repeated. Without --workload that alone."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the requests.")] = False,
    seed: Annotated[
        int | None, typer.Option(help="Of prompts and orders (default: drawn, and told).")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="New or empty folder (default: phase5-bench/...).")
    ] = None,
    json: Json = False,
) -> None:
    """This engine, flags off and on, beside `mlx_lm.server`, in interleaved rounds.

    Exit 0 when all servers answered as mlx-lm's own generation does and did the same work.
    """
    from pytest_phase5.bench.cli import Options, run

    options = Options(
        model=model,
        workloads=tuple(workload or ()),
        streams=tuple(streams or ()),
        arms=tuple(arm or ()),
        rounds=rounds,
        seconds=seconds,
        seed=seed,
        quick=quick,
        limit=tuple(limit or ()),
        report=report,
    )
    raise typer.Exit(run(options, as_json=json))


def add_commands(app: typer.Typer) -> None:
    """Make it a command of a program."""
    app.command()(bench)
