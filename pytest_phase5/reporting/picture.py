"""The verdict and its criteria as one SVG, for pages that show what a report looks like.

`python -m pytest_phase5.reporting.picture VERDICT OUT` writes it. The same verdict gives the same
bytes.
"""

import sys
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Final

from gates.criteria import Criterion
from gates.shown import Shown, worst_first
from gates.verdict import Verdict, from_json
from pytest_phase5.look import DARK, LIGHT, variables
from pytest_phase5.reporting.drawings import FOREST_HIGH, FOREST_WIDE, forest
from pytest_phase5.reporting.headline import headline
from pytest_phase5.reporting.view import mark_of

_WIDE: Final = 920
_TOP: Final = 128
_ROW: Final = 34

#: Where columns stand: the first three begin there, the others end there.
_OUTCOME, _FOREST = 218, 322
_NUMBERS: Final = (("estimate", 624), ("interval", 780), ("limit", 840), ("n", 896))

_TONES: Final = {"promote": "good", "pass": "good", "rollback": "bad", "fail": "bad"}

_STYLE: Final = (
    f":root {{ {variables(LIGHT)} }} "
    f"@media (prefers-color-scheme: dark) {{ :root {{ {variables(DARK)} }} }} "
    "text { font: 14px system-ui, sans-serif; fill: var(--ink) } .b { font-weight: 600 } "
    ".soft { fill: var(--soft); font-size: 12.5px } .up { text-anchor: end } "
    ".word { font-size: 34px; font-weight: 700 } .good { fill: var(--good) } "
    ".bad { fill: var(--bad) } .warn { fill: var(--warn) } .paper { fill: var(--paper) } "
    ".raised { fill: var(--raised); stroke: var(--line) } .rule { stroke: var(--line) } "
    ".fine { fill: var(--good); fill-opacity: .13 } path { fill: none } "
    ".axis { stroke: var(--line) } .bound { stroke: var(--bad); stroke-width: 2 } "
    ".stretch { stroke: var(--c0); stroke-width: 2; stroke-dasharray: 3 2 } "
    ".interval { stroke: var(--ink); stroke-width: 1.8 } .point { fill: var(--ink) }"
)


def picture(verdict: Verdict, criteria: Mapping[str, Criterion]) -> str:
    """The picture of a verdict; criteria that are not known have no tinted side."""
    head = headline(verdict, "phase5-report")
    tone = _tone(head.word)
    rows = list(zip(worst_first(verdict), head.rows, strict=True))
    high = _TOP + _ROW * len(rows) + 14
    body = [
        f'<rect class="paper" width="{_WIDE}" height="{high}"/>',
        f'<rect class="raised" x="12.5" y="12.5" width="{_WIDE - 25}" height="76" rx="6"/>',
        f'<rect class="{tone}" x="12" y="12" width="8" height="77" rx="3"/>',
        f'<text class="word {tone}" x="40" y="52">{escape(head.word)}</text>',
        f'<text class="soft" x="40" y="76">{escape(head.subject)}</text>',
        f'<text class="soft" x="24" y="{_TOP - 12}">criterion</text>',
        f'<text class="soft" x="{_OUTCOME}" y="{_TOP - 12}">outcome</text>',
        f'<text class="soft" x="{_FOREST}" y="{_TOP - 12}">against its limit</text>',
        *(f'<text class="soft up" x="{x}" y="{_TOP - 12}">{name}</text>' for name, x in _NUMBERS),
    ]
    for number, (row, told) in enumerate(rows):
        drawn = forest(mark_of(row, criteria.get(row.id)), told.id)
        body += _row(told, drawn, _TOP + _ROW * number)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {high}" role="img" '
        f'aria-label="phase5 gate report: {escape(head.word)}"><style>{_STYLE}</style>'
        f"{''.join(body)}</svg>\n"
    )


def _row(told: Shown, drawn: str, top: int) -> Iterator[str]:
    base = top + 22
    facts = dict(told.facts())
    yield f'<path class="rule" d="M24 {top}.5H{_WIDE - 24}"/>'
    yield f'<text class="b" x="24" y="{base}">{escape(told.id)}</text>'
    yield f'<text class="b {_tone(told.outcome)}" x="{_OUTCOME}" y="{base}">{told.outcome}</text>'
    if drawn.startswith("<svg"):
        place = f'x="{_FOREST}" y="{top + 4}" width="{FOREST_WIDE}" height="{FOREST_HIGH}"'
        yield f"<svg {place}>{drawn}</svg>"
    else:
        yield f'<text class="soft" x="{_FOREST}" y="{base}">not measured</text>'
    yield from (
        f'<text class="up" x="{x}" y="{base}">{escape(facts[name])}</text>' for name, x in _NUMBERS
    )


def _tone(word: str) -> str:
    return _TONES.get(word, "warn")


def main(verdict: Path, out: Path) -> None:
    """Write the picture of a verdict, by the packaged policy."""
    from gates.policy import load_policy

    judged = from_json(verdict.read_text(encoding="utf-8"))
    out.write_text(picture(judged, load_policy().criteria), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
