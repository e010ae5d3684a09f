"""Charts as SVG, without a script: axes with units, from zero, in the colours of the page. Pure.

What is drawn is thinned out to some hundred points, and never loses an extreme: of each
stretch of time the lowest, the middle and the highest stay.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from math import ceil, floor, log10
from typing import Final, Literal

Point = tuple[float, float]

_WIDE: Final = 560
_HIGH: Final = 190
#: Room for the numbers of both axes, and above and right of the plot.
_LEFT, _BOTTOM, _TOP, _RIGHT = 52, 34, 8, 14
#: Stretches of time, and how many points of each are drawn.
_STRETCHES: Final = 280
_KEPT: Final = 3
#: About so many lines across, and along.
_TICKS: Final = 5
_NICE: Final = (1, 2, 5, 10)


Drawn = Literal["dots", "line", "ground", "marks"]


@dataclass(frozen=True, slots=True)
class Series:
    """Points in the order of their time (seconds), and how they are drawn.

    A ground is a broad line under the others. Marks stand at the upper edge whatever their
    value: for what has a moment and no figure.
    """

    name: str
    points: Sequence[Point]
    drawn: Drawn = "dots"


@dataclass(frozen=True, slots=True)
class Axes:
    """Where a value lies in the picture; both axes begin at zero, or at what is below it."""

    left: float
    right: float
    top: float

    @classmethod
    def of(cls, points: Sequence[Point], *, least: float = 0.0) -> "Axes":
        """Room for all points, and for heights up to `least`."""
        at = [x for x, _ in points]
        step = _step(max(least, *(y for _, y in points)))
        high = max(least, *(y for _, y in points))
        return cls(min(0.0, *at), max(*at, 1e-3), step * max(1, ceil(high / step - 1e-9)))

    def x(self, value: float) -> float:
        """From the left, in units of the picture."""
        share = (value - self.left) / (self.right - self.left)
        return _LEFT + share * (_WIDE - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """From above."""
        return _TOP + (1 - min(1.0, value / self.top)) * (_HIGH - _TOP - _BOTTOM)


def chart(
    title: str,
    series: Sequence[Series],
    *,
    limit: tuple[str, float] | None = None,
    along: str = "seconds",
) -> str:
    """A figure, or a line that says that there is nothing to show.

    Args:
        title: what is drawn, with its unit.
        series: those without points are named as such and not drawn.
        limit: a dashed line, by its name and value; it is only named where all is far below it.
        along: the unit of the other axis.
    """
    points = [p for one in series for p in one.points if one.drawn != "marks"]
    if not points:
        return f"<figure><figcaption>{escape(title)}: no reading</figcaption></figure>"
    axes = Axes.of([*points, *((x, 0.0) for one in series for x, _ in one.points)])
    shown = limit is not None and limit[1] <= axes.top
    body = "".join(
        (
            *_grid(axes, along),
            *(_drawn(one, number, axes) for number, one in enumerate(series)),
            _limit(limit[1], axes) if limit and shown else "",
        )
    )
    keys = [_key(one, number) for number, one in enumerate(series)]
    if limit is not None:
        far = "" if shown else ", above what is drawn"
        keys.append(f'<span class="limit">{escape(limit[0])}{far}</span>')
    return (
        f"<figure><figcaption><b>{escape(title)}</b> {' '.join(keys)}</figcaption>"
        f'<svg viewBox="0 0 {_WIDE} {_HIGH}" role="img" aria-label="{escape(title)}">{body}</svg>'
        "</figure>"
    )


def thinned(points: Sequence[Point], stretches: int = _STRETCHES) -> list[Point]:
    """The lowest, the middle and the highest point of each stretch of time, in order."""
    if len(points) <= _KEPT * stretches:
        return list(points)
    first, last = points[0][0], points[-1][0]
    wide = (last - first) / stretches or 1.0
    kept: list[Point] = []
    for _, those in groupby(points, key=lambda point: floor((point[0] - first) / wide)):
        ranked = sorted(those, key=lambda point: point[1])
        kept += sorted({ranked[0], ranked[len(ranked) // 2], ranked[-1]})
    return kept


def _grid(axes: Axes, along: str) -> Iterator[str]:
    right, bottom = _WIDE - _RIGHT, _HIGH - _BOTTOM
    for value in ticks(0.0, axes.top):
        y = axes.y(value)
        yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>'
        yield f'<text class="up" x="{_LEFT - 6}" y="{y + 4:.1f}">{value:g}</text>'
    for value in ticks(axes.left, axes.right):
        x = axes.x(value)
        yield f'<text class="along" x="{x:.1f}" y="{bottom + 15}">{value:g}</text>'
    middle = (_LEFT + right) / 2
    yield f'<text class="along" x="{middle:.0f}" y="{_HIGH - 4}">{escape(along)}</text>'


def _drawn(series: Series, number: int, axes: Axes) -> str:
    points = thinned(series.points)
    if series.drawn in {"line", "ground"}:
        path = "L".join(f"{axes.x(x):.1f} {axes.y(y):.1f}" for x, y in points)
        return f'<path class="{series.drawn} s{number}" d="M{path}"/>' if points else ""
    upper = series.drawn == "marks"
    at = [(axes.x(x), axes.y(axes.top if upper else y)) for x, y in points]
    # Each dot is a line of no length with round ends: a third of the bytes of a circle.
    return f'<path class="dots s{number}" d="{"".join(f"M{x:.1f} {y:.1f}h0" for x, y in at)}"/>'


def _limit(value: float, axes: Axes) -> str:
    return f'<path class="limit" d="M{_LEFT} {axes.y(value):.1f}H{_WIDE - _RIGHT}"/>'


def _key(series: Series, number: int) -> str:
    none = "" if series.points else ": none"
    return f'<span class="key s{number}">{escape(series.name)}{none}</span>'


def ticks(low: float, high: float) -> Iterator[float]:
    """Round values at about equal distances, for the lines of an axis."""
    step = _step(high - low)
    for place in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1):
        yield round(place * step, 9)


def _step(span: float) -> float:
    """A round distance that divides a span into about five."""
    if span <= 0:
        return 1.0
    rough = span / _TICKS
    power: float = 10.0 ** floor(log10(rough))
    return next(nice * power for nice in _NICE if nice * power >= rough * (1 - 1e-9))
