"""The state machine as tables for the documentation; run as a script, it prints them."""

import sys
from collections.abc import Iterator

from gates.stages import TABLE, Event, Move


def tables() -> str:
    """Where each event leads from each state, and what it needs."""
    return "\n".join([*_matrix(), "", *_needs()])


def _matrix() -> Iterator[str]:
    yield _row("", *(f"`{event}`" for event in Event))
    yield _row(*["---"] * (len(Event) + 1))
    for state, moves in TABLE.items():
        cells = (moves[event].to if event in moves else "refused" for event in Event)
        yield _row(f"**{state}**", *("stays" if cell == state else cell for cell in cells))


def _needs() -> Iterator[str]:
    yield _row("event", "from", "needs, in this order", "epoch")
    yield _row(*["---"] * 4)
    for event in Event:
        groups: dict[tuple[str, bool], list[str]] = {}
        for state, moves in TABLE.items():
            if event in moves:
                groups.setdefault(_demand(moves[event]), []).append(state)
        for (needs, rises), states in groups.items():
            yield _row(f"`{event}`", ", ".join(states), needs, "rises" if rises else "stays")


def _demand(move: Move) -> tuple[str, bool]:
    return "; ".join(move.needs) or "nothing", move.new_epoch


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(tables() + "\n")
