"""How the pages of this project look: one palette, light and dark, and what all pages share."""

from collections.abc import Mapping
from typing import Final

#: Colours by their purpose. Every text colour has a contrast of 4.5 or more on each ground, every
#: line that means something one of 3 (WCAG 2.2, AA); a test holds them to that.
LIGHT: Final[Mapping[str, str]] = {
    "ink": "#1f2328",
    "soft": "#59636e",
    "paper": "#ffffff",
    "raised": "#f6f8fa",
    "line": "#d1d9e0",
    "good": "#1a7f37",
    "warn": "#9a6700",
    "bad": "#cf222e",
    "c0": "#0969da",
    "c1": "#bc4c00",
    "c2": "#1a7f37",
}
DARK: Final[Mapping[str, str]] = {
    "ink": "#e6edf3",
    "soft": "#9198a1",
    "paper": "#0d1117",
    "raised": "#151b23",
    "line": "#30363d",
    "good": "#3fb950",
    "warn": "#d29922",
    "bad": "#f85149",
    "c0": "#4493f8",
    "c1": "#f0883e",
    "c2": "#3fb950",
}


def variables(palette: Mapping[str, str]) -> str:
    """A palette as properties of CSS."""
    return "; ".join(f"--{name}: {colour}" for name, colour in palette.items())


_COLOURS: Final = f"""
:root {{ color-scheme: light dark; {variables(LIGHT)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {variables(DARK)} }} }}
"""

_SHARED: Final = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem;
  max-width: 76rem; color: var(--ink); background: var(--paper) }
h1 { margin-bottom: .3rem } h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line) }
p.soft, figcaption, footer { color: var(--soft) } figcaption b { color: var(--ink) }
li { overflow-wrap: anywhere } li.bad { color: var(--bad) }
.state { font-size: 1rem; padding: .15rem .6rem; border-radius: 1rem; vertical-align: middle;
  border: 1px solid; color: var(--bad) } .state.good { color: var(--good) }
.wide { overflow-x: auto; margin: .8rem 0 } table { border-collapse: collapse; font-size: 14px }
td, th { padding: .2rem .45rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums }
th { color: var(--soft); font-weight: 600 } td.name, th.name { text-align: left }
td:first-child, th:first-child { padding-left: 0 }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr));
  gap: 1rem } figure { margin: 0 } svg { width: 100%; height: auto } figcaption { font-size: 13px }
svg text { fill: var(--soft); font-size: 11px } .up { text-anchor: end }
.along { text-anchor: middle }
svg path { fill: none } .grid { stroke: var(--line) } .line { stroke-width: 1.5 }
.ground { stroke-width: 5; stroke-opacity: .35 }
.dots { stroke-width: 3; stroke-linecap: round; stroke-opacity: .7 }
.s0 { stroke: var(--c0) } .s1 { stroke: var(--c1) } .s2 { stroke: var(--c2) }
path.limit { stroke: var(--bad); stroke-dasharray: 5 4 }
.key::before { content: "\\25CF\\00A0" } .key, .limit { margin-left: .6rem; white-space: nowrap }
.key.s0::before { color: var(--c0) } .key.s1::before { color: var(--c1) }
.key.s2::before { color: var(--c2) } span.limit::before { content: "- - "; color: var(--bad) }
"""

STYLE: Final = _COLOURS + _SHARED
