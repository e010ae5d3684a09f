"""A result as one page that needs nothing else: no script, no network, light or dark. Pure."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from math import floor
from typing import Any, Final

from gates.samples import Outcome, Sample
from gates.usage import FRONT_END, RUNTIME
from pytest_phase5.load import grids
from pytest_phase5.load.building import measured
from pytest_phase5.load.grids import PART_NAMES, Grid
from pytest_phase5.load.plots import Drawn, Point, Series, chart
from pytest_phase5.load.running import PartResult, ProfileResult
from pytest_phase5.look import STYLE

#: Stretches of time in which requests are counted, and their least length in seconds.
_STRETCHES: Final = 150
_LEAST_SECONDS: Final = 0.5
_MIB: Final = 2**20


def page(result: ProfileResult, document: Mapping[str, Any]) -> str:
    """The page of a result and its document."""
    parts = document["parts"]
    body = (
        _head(result, document),
        _table(grids.loads(parts)),
        _table(grids.comparisons(document["comparisons"])),
        *(_part(*both, document) for both in zip(result.parts, parts, strict=True)),
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>phase5 load: {escape(document["profile"])}</title>'
        f"<style>{STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _head(result: ProfileResult, document: Mapping[str, Any]) -> str:
    good = " good" if document["valid"] and document["complete"] else ""
    where = f"{grids.heading(document)}, {document['created']}"
    return (
        f"<h1>{escape(document['profile'])}"
        f' <span class="state{good}">{escape(grids.state(document))}</span></h1>'
        f"<p>{escape(result.profile.summary)}</p>"
        f'<p class="soft">{escape(where)}</p>{_notes(document)}'
        f'<p class="soft">{escape(grids.reading(document))}; - is not told or not there, ? is a '
        "bound that so few requests cannot give. The warm-up is left out.</p>"
    )


def _notes(document: Mapping[str, Any]) -> str:
    lines = "".join(
        f"<li{' class=bad' if ': invalid: ' in note else ''}>{escape(note)}</li>"
        for note in grids.notes(document)
    )
    return f"<ul>{lines}</ul>" if lines else ""


def _part(part: PartResult, shown: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    tables = (grids.times([shown]), grids.steps([shown]), grids.resources([shown]))
    samples = measured(part.samples)
    limit = (f"good: {document['good_ttft_ms']:g} ms", float(document["good_ttft_ms"]))
    charts = (
        chart("Time to first token, ms", list(_ttft(samples)), limit=limit),
        chart("Requests a second", list(_rates(samples))),
        chart("Streams open", [Series("most at once", list(_open(samples)), "line")]),
        chart("Memory, MiB", list(_memory(part))),
    )
    return (
        f"<section><h2>{escape(shown['name'])}</h2>"
        f"{''.join(_table(_without_part(table)) for table in tables)}"
        f'<div class="charts">{"".join(charts)}</div></section>'
    )


def _table(grid: Grid) -> str:
    """Nothing for a table without a row."""
    if not grid.rows:
        return ""
    head = "".join(_cell("th", cell, grid, n) for n, cell in enumerate(grid.columns))
    rows = "".join(
        f"<tr>{''.join(_cell('td', cell, grid, n) for n, cell in enumerate(row))}</tr>"
        for row in grid.rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>'


def _cell(tag: str, text: str, grid: Grid, place: int) -> str:
    name = ' class="name"' if place < grid.names else ""
    return f"<{tag}{name}>{escape(text)}</{tag}>"


def _without_part(grid: Grid) -> Grid:
    """Under the heading of a part its name need not stand in each row."""
    return Grid(grid.columns[1:], tuple(row[1:] for row in grid.rows), names=grid.names - 1)


def _ttft(samples: Sequence[Sample]) -> Iterator[Series]:
    known = [(s.scheduled, 1e3 * s.ttft) for s in samples if s.ttft is not None]
    lost = [s.scheduled for s in samples if s.outcome not in {Outcome.OK, Outcome.CANCELLED}]
    yield Series("a request", sorted(known))
    yield Series("failed, cut, shed or dropped", [(at, 0.0) for at in sorted(lost)], "marks")


def _rates(samples: Sequence[Sample]) -> Iterator[Series]:
    ends = [s.end for s in samples if s.end is not None and s.outcome is Outcome.OK]
    times = {
        "due": [s.scheduled for s in samples],
        "sent": [s.sent for s in samples if s.sent is not None],
        "done": ends,
    }
    begin = min(times["due"], default=0.0)
    span = max((*times["due"], *ends), default=begin) - begin
    wide = max(_LEAST_SECONDS, span / _STRETCHES)
    for name, moments in times.items():
        drawn: Drawn = "ground" if name == "due" else "line"
        yield Series(name, _counted(moments, begin, wide, floor(span / wide)), drawn)


def _counted(moments: Iterable[float], begin: float, wide: float, whole: int) -> list[Point]:
    """How many a second in each whole stretch of time."""
    found = Counter(floor((at - begin) / wide) for at in moments)
    return [(begin + (place + 0.5) * wide, found[place] / wide) for place in range(whole)]


def _open(samples: Sequence[Sample]) -> Iterator[Point]:
    """Streams that were open whenever one was sent."""
    flown = [(s.sent, s.end) for s in samples if s.sent is not None and s.end is not None]
    ends = sorted(end for _, end in flown)
    for number, at in enumerate(sorted(sent for sent, _ in flown), start=1):
        yield at, number - bisect_right(ends, at)


def _memory(part: PartResult) -> Iterator[Series]:
    for of in (FRONT_END, RUNTIME):
        read = [(u.at, u.rss_bytes / _MIB) for u in part.usage if u.part == of and u.rss_bytes]
        yield Series(PART_NAMES[of], read, "line")
