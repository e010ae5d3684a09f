"""What the commands of `phase5` share: options that mean the same everywhere, and refusals."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

#: Exit code for a wrong call or configuration.
USAGE: Final = 2

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object.")]


def in_use(given: Path | None) -> Path:
    """The file that a command without `--config` takes as well."""
    from gates.fleet import config_in_use

    return config_in_use(given)


_CONFIG_HELP: Final = "A runtime.yaml; else ./config, else packaged."
ConfigPath = Annotated[Path | None, typer.Option("--config", help=_CONFIG_HELP)]
#: For commands that read `gates.yaml` beside it, and so must know which file it is.
ConfigInUse = Annotated[Path | None, typer.Option("--config", callback=in_use, help=_CONFIG_HELP)]


@contextmanager
def one_line(*errors: type[Exception]) -> Iterator[None]:
    """Turn a mistake of the caller into one line on standard error and exit code 2."""
    try:
        yield
    except errors as error:
        refuse(str(error))


def refuse(message: str) -> NoReturn:
    """End with one line on standard error and exit code 2."""
    sys.stderr.write(f"phase5: {message}\n")
    raise SystemExit(USAGE)


def confirmed(question: str, *, unasked: bool) -> bool:
    """Ask whoever sits at a terminal; `unasked` is the answer where nobody does."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return unasked
    return typer.confirm(question, default=False, err=True)
