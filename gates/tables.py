"""A console on which nothing is wrapped or cut off a terminal: what is folded nobody can grep."""

from typing import Final

from rich.console import Console

#: Wider than any line.
_SURELY_WIDE: Final = 10_000


def console() -> Console:
    """Standard output."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(width=_SURELY_WIDE, highlight=False)
