"""State diagrams, drawn from the literal tables that the program walks."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from engine.core.registry import TRANSITIONS
from gates.stages import STAGES, TABLE, UNMANAGED

#: Pixels: of a box, between two boxes, and how much higher each further bow goes.
WIDTH, HEIGHT, GAP, RISE = 92, 32, 48, 26

Edge = tuple[str, str, str]  #: from, to, label


def stages() -> str:
    """Where a flag stands, and what moves it elsewhere; what leaves it where it is has no line."""
    edges = [
        (state, move.to, event.value)
        for state, moves in TABLE.items()
        for event, move in moves.items()
        if move.to != state
    ]
    return diagram((*STAGES, UNMANAGED), edges, "The stages of a flag")


def streams() -> str:
    """The life of a stream."""
    edges = [(a.value, b.value, "") for a, after in TRANSITIONS.items() for b in sorted(after)]
    return diagram([state.value for state in TRANSITIONS], edges, "The life of a stream")


def diagram(states: Sequence[str], edges: Iterable[Edge], title: str) -> str:
    """The states in a row: a step to the next one straight, a leap above, a way back below."""
    places = {state: index * (WIDTH + GAP) for index, state in enumerate(states)}
    parts = [line(edge, places) for edge in edges]
    parts += [box(state, x) for state, x in places.items()]
    width, half = len(states) * (WIDTH + GAP) - GAP, len(states) * RISE
    view = f"-4 {-half} {width + 8} {HEIGHT + 2 * half}"
    style = "font: 13px sans-serif; max-width: 100%; fill: none; stroke: currentColor"
    return (
        f'<svg viewBox="{view}" width="{width}" role="img" style="{style}">'
        f'<title>{escape(title)}</title><defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" '
        'markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0 L8 4 L0 8 z" '
        f'fill="currentColor" stroke="none"/></marker></defs>{"".join(parts)}</svg>'
    )


def box(state: str, x: int) -> str:
    """A state."""
    shape = f'<rect x="{x}" y="0" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
    return shape + text(state, x + WIDTH / 2, HEIGHT / 2 + 4)


def line(edge: Edge, places: Mapping[str, int]) -> str:
    """A way from one state to another."""
    start, end, label = edge
    x, to = places[start], places[end]
    if to - x == WIDTH + GAP:
        way = f"M{x + WIDTH} {HEIGHT / 2} L{to} {HEIGHT / 2}"
        return arrow(way) + text(label, x + WIDTH + GAP / 2, HEIGHT / 2 - 6, small=True)
    steps = abs(to - x) // (WIDTH + GAP)
    y, bow = (0, -RISE * steps) if to > x else (HEIGHT, HEIGHT + RISE * steps)
    begin, goal = x + WIDTH / 2, to + WIDTH / 2 + (8 if to < x else -8)
    way = f"M{begin} {y} C{begin} {bow} {goal} {bow} {goal} {y}"
    return arrow(way) + text(label, (begin + goal) / 2, y + (bow - y) * 0.75 - 4, small=True)


def arrow(way: str) -> str:
    """A line with a tip."""
    return f'<path d="{way}" marker-end="url(#tip)"/>'


def text(label: str, x: float, y: float, *, small: bool = False) -> str:
    """A word, centred."""
    size = ' font-size="10"' if small else ""
    style = 'text-anchor="middle" fill="currentColor" stroke="none"'
    return f'<text x="{x:g}" y="{y:g}" {style}{size}>{escape(label)}</text>' if label else ""
