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
ConfigPath = Annotated[
    Path | None, typer.Option("--config", help="A runtime.yaml; else ./config, else packaged.")
]


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
