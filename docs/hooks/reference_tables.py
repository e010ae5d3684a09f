"""Tables of Markdown, for the pages that are made from the code."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; what would end a cell or a row is written so that it does not."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def code(text: object) -> str:
    """Between backticks, or nothing for what is not there."""
    return f"`{text}`" if text not in {None, ""} else ""


def first(docstring: str | None) -> str:
    """The first paragraph of a docstring, in one line.

    Raises:
        ValueError: there is none.
    """
    if not docstring:
        raise ValueError("no docstring, where the reference is made of it")
    return " ".join(docstring.strip().split("\n\n")[0].split())


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
