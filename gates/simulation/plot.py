"""The table as one SVG, without a plotting library: how often, and how soon."""

from collections.abc import Iterable, Iterator, Sequence
from math import inf, isfinite, log10
from typing import Final
from xml.sax.saxutils import escape

from gates.simulation.scenarios import Counts
from gates.simulation.study import Measured, Standing

_WIDTH: Final = 960
_LEFT: Final = 330  #: where the names end
_RIGHT: Final = 40
_LINE: Final = 22
_COLOURS: Final = {Standing.MET: "#2a7", Standing.CHANCE: "#c93", Standing.MISSED: "#c33"}

#: The ends of both logarithmic scales: shares, and requests or minutes.
_SHARES: Final = (1e-3, 1.0)
_AMOUNTS: Final = (1.0, 1e5)


def svg(table: Sequence[Measured]) -> str:
    """Each measured number with its interval, and a mark where its target is."""
    amounts = [m for m in table if m.scenario.counts in (Counts.REQUESTS, Counts.MINUTES)]
    shares = [m for m in table if m not in amounts]
    lines: list[str] = []
    y = 30.0
    for title, part, scale in (
        ("share of runs", shares, _SHARES),
        ("treated requests, or minutes, to rollback", amounts, _AMOUNTS),
    ):
        if part:
            lines.extend(_chart(title, part, scale, y))
            y += _LINE * (len(part) + 3)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y:.0f}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
    )
    return "\n".join([head, *lines, "</svg>", ""])


def _chart(
    title: str, table: Iterable[Measured], scale: tuple[float, float], y: float
) -> Iterator[str]:
    rows = list(table)
    bottom = y + _LINE * (len(rows) + 0.5)
    yield f'<text x="{_LEFT}" y="{y:.0f}" font-weight="bold">{escape(title)}</text>'
    for power in range(round(log10(scale[0])), round(log10(scale[1])) + 1):
        x = _place(10.0**power, scale)
        yield f'<path d="M{x:.1f} {y + 6:.0f}V{bottom:.0f}" stroke="#ddd"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 14:.0f}" text-anchor="middle">{10.0**power:g}</text>'
    for number, row in enumerate(rows, start=1):
        yield from _row(row, scale, y + _LINE * number)


def _row(row: Measured, scale: tuple[float, float], y: float) -> Iterator[str]:
    colour = _COLOURS[row.standing]
    low, high, target = (_place(end, scale) for end in (row.low, row.high, row.scenario.target))
    value = _place(inf if row.value is None else row.value, scale)
    yield (
        f'<text x="{_LEFT - 10}" y="{y + 4:.0f}" text-anchor="end">'
        f"{escape(row.scenario.name)}</text>"
    )
    yield f'<path d="M{low:.1f} {y:.0f}H{high:.1f}" stroke="{colour}" stroke-width="3"/>'
    yield f'<circle cx="{value:.1f}" cy="{y:.0f}" r="5" fill="{colour}"/>'
    yield f'<path d="M{target:.1f} {y - 8:.0f}v16" stroke="#000" stroke-width="2"/>'


def _place(value: float, scale: tuple[float, float]) -> float:
    """Where a number stands; beyond the ends at the ends."""
    low, high = scale
    kept = min(max(value, low), high) if isfinite(value) else high
    share = log10(kept / low) / log10(high / low)
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)
