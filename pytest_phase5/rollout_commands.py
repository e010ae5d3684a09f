"""The commands that move the rollout and show where it stands. Each loads its work when called."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pytest_phase5.cli_options import ConfigPath, Json, confirmed, one_line

Flags = Annotated[
    list[str] | None, typer.Option("--flag", help="Only this flag; may be given several times.")
]
Engines = Annotated[
    list[str] | None,
    typer.Option("--engine", help="Base URL of an engine besides those of rollout.engines."),
]
Reason = Annotated[str, typer.Option(help="For the history: why.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")]


def status(
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and look again; on a terminal.")
    ] = False,
    engine: Engines = None,
    config: ConfigPath = None,
    json: Json = False,
) -> None:
    """Stages, shares, what is left of the soaks, and what the engines say; exit 0 without any."""
    from gates.fleet import config_in_use
    from gates.status_cli import Question, show_status

    question = Question(config=config_in_use(config), engines=_urls(engine), watch=watch)
    raise typer.Exit(show_status(question, as_json=json))


def promote(
    *,
    verdict: Annotated[Path, typer.Option(help="A verdict.json beside its evidence.")] = Path(
        "phase5-report/verdict.json"
    ),
    flag: Flags = None,
    reason: Reason = "",
    engine: Engines = None,
    config: ConfigPath = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Move flags one stage up, as a verdict says; exit 1 and nothing changed when it may not."""
    from gates.fleet import config_in_use
    from gates.promote_cli import Order
    from gates.promote_cli import promote as move

    order = Order(
        config=config_in_use(config),
        verdict=verdict,
        flags=_flags(flag),
        engines=_urls(engine),
        reason=reason,
        dry_run=dry_run,
        # Elsewhere than on a terminal, whoever called it has decided.
        confirm=partial(confirmed, unasked=True),
    )
    raise typer.Exit(move(order, as_json=json))


def rollback(
    *,
    flag: Flags = None,
    reason: Reason = "",
    engine: Engines = None,
    config: ConfigPath = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Flags to 0 %, at once: all, or those named; exit 0 only when every engine confirmed it."""
    from gates.fleet import config_in_use
    from gates.rollback_cli import Order
    from gates.rollback_cli import rollback as back

    order = Order(
        config=config_in_use(config),
        flags=_flags(flag),
        engines=_urls(engine),
        reason=reason,
        dry_run=dry_run,
    )
    raise typer.Exit(back(order, as_json=json))


def hold(
    *,
    flag: Annotated[list[str], typer.Option("--flag", help="May be given several times.")],
    reason: Annotated[str, typer.Option(help="Why; shown until it is resumed.")],
    engine: Engines = None,
    config: ConfigPath = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Let no promotion of a flag through until it is resumed; what it serves goes on."""
    _give("hold", flag, reason, engine, config, dry_run=dry_run, json=json)


def resume(
    *,
    flag: Annotated[list[str], typer.Option("--flag", help="May be given several times.")],
    reason: Reason = "",
    clear: Annotated[
        str,
        typer.Option(help="Instead: let this candidate, rolled back before, be promoted again."),
    ] = "",
    engine: Engines = None,
    config: ConfigPath = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """End a hold; with --clear and a reason, forgive a candidate that was rolled back."""
    event = "clear" if clear else "resume"
    _give(event, flag, reason, engine, config, candidate=clear, dry_run=dry_run, json=json)


def approve(
    *,
    flag: Annotated[list[str], typer.Option("--flag", help="May be given several times.")],
    reason: Reason = "",
    engine: Engines = None,
    config: ConfigPath = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Consent to a flag's next stage, where rollout.approval asks for it."""
    _give("approve", flag, reason, engine, config, dry_run=dry_run, json=json)


def add_commands(app: typer.Typer) -> None:
    """Make them commands of a program."""
    for command in (status, promote, rollback, hold, resume, approve):
        app.command()(command)


def _give(
    event: str,
    flag: list[str],
    reason: str,
    engine: list[str] | None,
    config: Path | None,
    *,
    dry_run: bool,
    json: bool,
    candidate: str = "",
) -> None:
    from gates.fleet import config_in_use
    from gates.hold_cli import Order, give
    from gates.stages import Event

    order = Order(
        event=Event(event),
        config=config_in_use(config),
        flags=_flags(flag),
        reason=reason,
        engines=_urls(engine),
        candidate=candidate,
        dry_run=dry_run,
    )
    raise typer.Exit(give(order, as_json=json))


def _flags(names: Iterable[str] | None) -> tuple[str, ...]:
    from gates.fleet import flag_names

    with one_line(ValueError):
        return flag_names(names or ())


def _urls(given: Iterable[str] | None) -> tuple[str, ...]:
    from gates.fleet import base_url

    with one_line(ValueError):
        return tuple(base_url(url) for url in given or ())
