"""A result's document for people: aligned tables, never wrapped or cut off a terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pytest_phase5.load import grids
from pytest_phase5.load.grids import Grid


def show(document: Mapping[str, Any], console: Console) -> None:
    """Print a document."""
    console.print(Group(*_blocks(document)), soft_wrap=True)


def _blocks(document: Mapping[str, Any]) -> Iterator[RenderableType]:
    yield Text(grids.heading(document), style="bold")
    yield Text(grids.reading(document))
    parts = document["parts"]
    found = (
        *(grids.loads(parts), grids.times(parts), grids.steps(parts), grids.resources(parts)),
        grids.comparisons(document["comparisons"]),
    )
    for grid in found:
        if grid.rows:
            yield Text()
            yield table(grid)
    yield Text()
    yield from (Text(note) for note in grids.notes(document))
    yield Text(grids.state(document), style="bold green" if document["valid"] else "bold red")


def table(grid: Grid) -> Table:
    """A grid, aligned and never wrapped."""
    made = Table(box=None, pad_edge=False)
    for place, column in enumerate(grid.columns):
        made.add_column(column, justify="left" if place < grid.names else "right", no_wrap=True)
    for row in grid.rows:
        made.add_row(*(Text(cell) for cell in row))
    return made
