"""The pictures of a report as SVG, without a script, in the colours of the page. Pure."""

from collections.abc import Callable, Iterator, Sequence
from html import escape
from math import ceil, floor, log10
from typing import Final

from gates.statistics import quantile
from pytest_phase5.load.plots import Series, chart, thinned, ticks
from pytest_phase5.reporting.times import Span, Step, Timeline
from pytest_phase5.reporting.view import QUANTILES, Distribution, Mark, Minute

#: A row of the forest: units of the picture, and room at both ends for arrows.
FOREST_WIDE: Final = 220
FOREST_HIGH: Final = 26
_FOREST_ROOM: Final = 12
_EDGE: Final = 3.0

#: Numbers beyond this leave nothing to see, and their differences overflow.
_MOST: Final = 1e300

_WIDE: Final = 560
_HIGH: Final = 190
_LEFT, _BOTTOM, _TOP, _RIGHT = 52, 34, 18, 14

#: Points of one curve: more than the picture has pixels would be drawn on each other.
_POINTS: Final = 300

#: The lanes of the timeline, from above, with their height.
_LANES: Final = ("load", "fault", "recovery")
_LANE_HIGH: Final = 26

#: Where lines stand in a decade, and in a picture of less than one.
_NICE: Final = (1, 2, 5)
_CLOSE: Final = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8)

Place = Callable[[float], float]


def forest(mark: Mark, label: str) -> str:
    """The interval of a criterion against its limit, on a scale of its own."""
    numbers = (mark.limit, mark.estimate, mark.low, mark.high, mark.stretch)
    known = [value for value in numbers if value is not None]
    if mark.limit is None or mark.estimate is None:
        return '<span class="soft">not measured</span>'
    if max(map(abs, known)) > _MOST:
        return '<span class="soft">beyond what can be drawn</span>'
    return (
        f'<svg class="forest" viewBox="0 0 {FOREST_WIDE} {FOREST_HIGH}" role="img" '
        f'aria-label="{escape(label)}">{"".join(_forest(mark, known))}</svg>'
    )


def _forest(mark: Mark, known: Sequence[float]) -> Iterator[str]:
    middle = FOREST_HIGH / 2
    limit, x, *others = _places(known)
    if mark.higher is not None:
        left, right = (limit, FOREST_WIDE) if mark.higher else (0.0, limit)
        yield f'<rect class="fine" x="{left:.1f}" y="3" width="{right - left:.1f}" height="20"/>'
    yield f'<path class="axis" d="M0 {middle}H{FOREST_WIDE}"/>'
    if mark.stretch is not None:
        yield f'<path class="stretch" d="M{others.pop():.1f} 5V21"/>'
    yield f'<path class="bound" d="M{limit:.1f} 2V24"/>'
    if others or mark.open_low or mark.open_high:
        low = _EDGE if mark.low is None else others[0]
        high = FOREST_WIDE - _EDGE if mark.high is None else others[-1]
        yield f'<path class="interval" d="M{low:.1f} {middle}H{high:.1f}"/>'
        yield _end(low, middle, -1 if mark.open_low else 0)
        yield _end(high, middle, 1 if mark.open_high else 0)
    yield f'<rect class="point" x="{x - 4:.1f}" y="{middle - 4}" width="8" height="8"/>'


def _places(values: Sequence[float]) -> list[float]:
    """Where numbers lie across a row; in the middle where all are the same."""
    low, high = min(values), max(values)
    if low == high:
        return [FOREST_WIDE / 2 for _ in values]
    room = FOREST_WIDE - 2 * _FOREST_ROOM
    return [_FOREST_ROOM + (value - low) / (high - low) * room for value in values]


def _end(x: float, y: float, way: int) -> str:
    """A bar where an interval ends, an arrow where it goes on."""
    if not way:
        return f'<path class="interval" d="M{x:.1f} {y - 4}V{y + 4}"/>'
    back = x - 5 * way
    return f'<path class="interval" d="M{back:.1f} {y - 4}L{x:.1f} {y}L{back:.1f} {y + 4}"/>'


def distribution(shown: Distribution) -> str:
    """The share of requests within a time, per arm, on a logarithmic scale of milliseconds."""
    values = [value for arm in shown.arms for value in arm.values]
    low, high = log10(min(values)), log10(max(values))
    wide = max(high - low, 0.05)

    def x(value: float) -> float:
        return _LEFT + (log10(value) - low) / wide * (_WIDE - _LEFT - _RIGHT)

    body = [*_shares(), *_decades(low, low + wide, x)]
    for number, arm in enumerate(shown.arms):
        body.append(_ecdf(arm.values, number, x))
    return _svg(body, f"{shown.title}: {shown.where}")


def _ecdf(values: Sequence[float], number: int, x: Place) -> str:
    if not values:
        return ""
    n = len(values)
    kept = sorted({round(i * (n - 1) / _POINTS) for i in range(_POINTS + 1)})
    path = "L".join(f"{x(values[i]):.1f} {_share((i + 1) / n):.1f}" for i in kept)
    marks = "".join(
        f"M{x(quantile(values, share)):.1f} {_share(share):.1f}h0" for share in QUANTILES
    )
    colour = f"s{_ARM_COLOURS[number]}"
    return f'<path class="line {colour}" d="M{path}"/><path class="marks {colour}" d="{marks}"/>'


#: Treatment in the second colour, control in the first: the same everywhere.
_ARM_COLOURS: Final = (1, 0)


def _share(share: float) -> float:
    return _TOP + (1 - share) * (_HIGH - _TOP - _BOTTOM)


def _shares() -> Iterator[str]:
    for share, text in ((0.0, "0 %"), (0.5, "P50"), (0.95, "P95"), (0.99, "")):
        y = _share(share)
        yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDE - _RIGHT}"/>'
        yield f'<text class="up" x="{_LEFT - 6}" y="{y + 4:.1f}">{text}</text>'
    yield f'<text class="up" x="{_LEFT - 6}" y="{_share(0.99) - 6:.1f}">P99</text>'


def _decades(low: float, high: float, x: Place) -> Iterator[str]:
    powers = range(floor(low), ceil(high) + 1)
    nice = _NICE if high - low > 1 else _CLOSE
    values = [step * 10.0**power for power in powers for step in nice]
    for value in (v for v in values if low <= log10(v) <= high):
        yield f'<path class="grid" d="M{x(value):.1f} {_TOP}V{_HIGH - _BOTTOM}"/>'
        yield f'<text class="along" x="{x(value):.1f}" y="{_HIGH - _BOTTOM + 15}">{value:g}</text>'
    middle = (_LEFT + _WIDE - _RIGHT) / 2
    yield f'<text class="along" x="{middle:.0f}" y="{_HIGH - 4}">milliseconds</text>'


def timeline(shown: Timeline) -> str:
    """Load, faults and recovery in three lanes."""
    wide, left = 1000, 80
    seconds = max(shown.seconds, 1e-3)
    bottom = _LANE_HIGH * len(_LANES)

    def x(at: float) -> float:
        return left + at / seconds * (wide - left - 10)

    body = []
    for at in ticks(0.0, seconds):
        body.append(f'<path class="grid" d="M{x(at):.1f} 0V{bottom}"/>')
        body.append(f'<text class="along" x="{x(at):.1f}" y="{bottom + 15}">{at:g}</text>')
    for lane in _LANES:
        y = _LANES.index(lane) * _LANE_HIGH + _LANE_HIGH * 0.7
        body.append(f'<text class="up" x="{left - 10}" y="{y:.0f}">{lane}</text>')
    body += [_span(span, x) for span in shown.spans]
    body.append(f'<text class="along" x="{wide / 2:.0f}" y="{bottom + 31}">seconds</text>')
    return (
        f'<svg viewBox="0 0 {wide} {bottom + 36}" role="img" '
        f'aria-label="Load, faults and recovery over time">{"".join(body)}</svg>'
    )


def _span(span: Span, x: Place) -> str:
    """At least as wide as can be seen, with its words for a pointer that stays."""
    left, top = x(span.begin), _LANES.index(span.lane) * _LANE_HIGH + 5
    wide = max(3.0, x(span.end) - left)
    return (
        f'<rect class="lane {span.lane}" x="{left:.1f}" y="{top}" width="{wide:.1f}" '
        f'height="{_LANE_HIGH - 10}" rx="2"><title>{escape(span.text)}</title></rect>'
    )


def growth(steps: Sequence[Step]) -> str:
    """How the requests that count came in, and those among them that failed or were cut."""
    counted = thinned([(step.at, float(step.n)) for step in steps])
    bad = [(step.at, float(step.bad)) for step in steps if step.bad]
    series = [Series("requests that count", counted, "line"), Series("failed or cut", bad, "line")]
    return chart("Evidence of the error rate", series)


def live(name: str, minutes: Sequence[Minute]) -> str:
    """The share of requests that failed or were cut, from the first minute on."""
    series = [
        Series("control", [(m.at, m.control) for m in minutes if m.control is not None], "line"),
        Series(
            "treatment", [(m.at, m.treatment) for m in minutes if m.treatment is not None], "line"
        ),
    ]
    return chart(f"Failed or cut so far, %: {name}", series, along="minutes")


def _svg(body: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDE} {_HIGH}" role="img" aria-label="{escape(label)}">'
        f"{''.join(body)}</svg>"
    )
