"""The ratios of a run as one SVG, in the colours of the pages. Pure."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from pytest_phase5.bench.pairing import more_is_better
from pytest_phase5.bench.tables import interval, measure_name
from pytest_phase5.look import DARK, LIGHT, variables
from pytest_phase5.reporting.drawings import FOREST_HIGH, FOREST_WIDE, forest
from pytest_phase5.reporting.view import Mark

_WIDE: Final = 920
_TOP: Final = 84
_ROW: Final = 30
_MEASURE, _RATIO, _FOREST, _NUMBER = 230, 400, 510, 896
#: What is drawn: the others are in the tables.
DRAWN: Final = ("requests_per_second", "ttft_p95_ms", "latency_p99_ms")

_LEGEND: Final = "median of the rounds with its 95 % interval; the line is 1, tinted is better"

_STYLE: Final = (
    f":root {{ {variables(LIGHT)} }} "
    f"@media (prefers-color-scheme: dark) {{ :root {{ {variables(DARK)} }} }} "
    "text { font: 13px system-ui, sans-serif; fill: var(--ink) } .b { font-weight: 600 } "
    ".soft { fill: var(--soft) } .up { text-anchor: end } .paper { fill: var(--paper) } "
    ".rule { stroke: var(--line) } .fine { fill: var(--good); fill-opacity: .13 } "
    "path { fill: none } .axis { stroke: var(--line) } .bound { stroke: var(--bad); "
    "stroke-width: 2 } .interval { stroke: var(--ink); stroke-width: 1.8 } "
    ".point { fill: var(--ink) }"
)


def picture(document: Mapping[str, Any]) -> str:
    """Each ratio with its interval against 1, where both are the same; tinted where it is better.

    Every row has a scale of its own.
    """
    rows = [
        (cell["name"], ratio)
        for cell in document["cells"]
        for ratio in cell["ratios"]
        if ratio["measure"] in DRAWN
    ]
    high = _TOP + _ROW * len(rows) + 14
    title = f"phase5 bench: {document['model']['name']}, {document['machine']}"
    body = [
        f'<rect class="paper" width="{_WIDE}" height="{high}"/>',
        f'<text class="b" x="24" y="34">{escape(title)}</text>',
        f'<text class="soft" x="24" y="56">{_LEGEND}</text>',
    ]
    for number, (name, ratio) in enumerate(rows):
        body += _row(name, ratio, _TOP + _ROW * number)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {high}" role="img" '
        f'aria-label="{escape(title)}"><style>{_STYLE}</style>{"".join(body)}</svg>\n'
    )


def _row(name: str, ratio: Mapping[str, Any], top: int) -> Iterator[str]:
    base = top + 20
    said = f"{ratio['of']} / {ratio['to']}"
    mark = Mark(
        estimate=ratio["ratio"],
        low=ratio.get("low"),
        high=ratio.get("high"),
        limit=1.0,
        higher=more_is_better(ratio["measure"]),
    )
    yield f'<path class="rule" d="M24 {top}.5H{_WIDE - 24}"/>'
    yield f'<text x="24" y="{base}">{escape(name)}</text>'
    yield f'<text x="{_MEASURE}" y="{base}">{escape(measure_name(ratio["measure"]))}</text>'
    yield f'<text x="{_RATIO}" y="{base}">{escape(said)}</text>'
    place = f'x="{_FOREST}" y="{top + 2}" width="{FOREST_WIDE}" height="{FOREST_HIGH}"'
    yield f"<svg {place}>{forest(mark, said)}</svg>"
    yield f'<text class="up" x="{_NUMBER}" y="{base}">{interval(ratio)}</text>'
