"""A result on disk: `result.json`, `result.csv`, `result.html`, and the raw rows under them."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from gates.samples import write_rows
from gates.usage import FRONT_END, RUNTIME, Usage, usage_row
from pytest_phase5.load.building import measured
from pytest_phase5.load.running import PartResult, ProfileResult, file_name
from pytest_phase5.load.tables import TIME_NAMES, heading, interval, notes, state

#: Points of a plot; more say nothing more at its size.
_MOST_POINTS: Final = 1_000
_WIDE: Final = 640
_HIGH: Final = 160

_STYLE: Final = """
body { font: 15px system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; color: #222 }
table { border-collapse: collapse } td, th { padding: .2rem .8rem; text-align: right }
td:first-child, th:first-child { text-align: left } svg { background: #f6f6f6 }
figure { display: inline-block; margin: 1rem 1rem 0 0 } li { overflow-wrap: anywhere }
"""


def write_result(folder: Path, result: ProfileResult, document: Mapping[str, Any]) -> None:
    """Write everything; the JSON document last, so that a torn folder has none."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in result.parts:
        name = file_name(part.part.name)
        write_rows(folder / f"{name}.samples.jsonl", part.samples)
        _write_usage(folder / f"{name}.usage.jsonl", part.usage)
    with (folder / "result.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(csv_rows(document))
    (folder / "result.html").write_text(page(result, document), encoding="utf-8")
    partial = folder / "result.partial"
    partial.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    partial.rename(folder / "result.json")


def csv_rows(document: Mapping[str, Any]) -> Iterator[Sequence[object]]:
    """One row for each figure: part, figure, unit, value, and the ends of its interval."""
    yield ("profile", "model", "machine", "part", "n", "figure", "unit", "value", "low", "high")
    for part in document["parts"]:
        same = (document["profile"], document["model"], document["machine"], part["name"])
        for figure, unit, value, low, high in _figures(part):
            yield (*same, part["n"], figure, unit, value, low, high)


def page(result: ProfileResult, document: Mapping[str, Any]) -> str:
    """One page that needs nothing else."""
    parts = "".join(
        f"<h2>{escape(shown['name'])}</h2>{_times(shown)}{_plots(part)}"
        for part, shown in zip(result.parts, document["parts"], strict=True)
    )
    lines = "".join(f"<li>{escape(note)}</li>" for note in notes(document))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{escape(document['profile'])}</title><style>{_STYLE}</style>"
        f"<h1>{escape(document['profile'])}: {escape(state(document))}</h1>"
        f"<p>{escape(heading(document))}</p><ul>{lines}</ul>{parts}</html>\n"
    )


def _write_usage(path: Path, usage: Sequence[Usage]) -> None:
    lines = (json.dumps(usage_row(reading), separators=(",", ":")) for reading in usage)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _figures(part: Mapping[str, Any]) -> Iterator[tuple[str, str, object, object, object]]:
    for outcome, count in part["outcomes"].items():
        yield f"outcome {outcome}", "requests", count, None, None
    for name in ("rate_asked", "rate_achieved", "completed_a_second", "goodput", "tokens_a_second"):
        yield name, "1/s", part[name], None, None
    for name, found in part["times_ms"].items():
        for q in found:
            yield f"{name} p{100 * q['share']:g}", "ms", q["value"], q["low"], q["high"]
    for of, used in part["resources"].items():
        for name, value in used.items():
            if name == "growth_bytes_a_request":
                growth = value or dict.fromkeys(("estimate", "low", "high"))
                yield f"{of} {name}", "bytes", growth["estimate"], growth["low"], growth["high"]
            else:
                yield f"{of} {name}", "", value, None, None


def _times(part: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{TIME_NAMES[name]}</td>"
        + "".join(f"<td>{escape(interval(quantile))}</td>" for quantile in found)
        + "</tr>"
        for name, found in part["times_ms"].items()
    )
    head = "<tr><th>ms</th><th>P50</th><th>P95</th><th>P99</th></tr>"
    return f"<p>n = {part['n']}, flags {escape(part['flags'])}</p><table>{head}{rows}</table>"


def _plots(part: PartResult) -> str:
    samples = measured(part.samples)
    ttft = [(s.scheduled, 1e3 * s.ttft) for s in samples if s.ttft is not None]
    plots = [_plot("TTFT in ms over seconds", ttft)]
    for of in (FRONT_END, RUNTIME):
        memory = [(u.at, u.rss_bytes / 2**20) for u in part.usage if u.part == of and u.rss_bytes]
        plots.append(_plot(f"{of} memory in MiB over seconds", memory))
    return "".join(plots)


def _plot(title: str, points: Sequence[tuple[float, float]]) -> str:
    """Dots, thinned out evenly; the axes span what there is."""
    if not points:
        return ""
    shown = points[:: -(-len(points) // _MOST_POINTS)]
    left, right = min(x for x, _ in shown), max(x for x, _ in shown)
    low, high = min(y for _, y in shown), max(y for _, y in shown)
    dots = "".join(
        f'<circle r="1.5" cx="{_share(x, left, right) * _WIDE:.1f}" '
        f'cy="{(1 - _share(y, low, high)) * _HIGH:.1f}"/>'
        for x, y in shown
    )
    caption = f"{title}: {low:.4g} to {high:.4g}, {left:.4g} to {right:.4g} s"
    return (
        f"<figure><figcaption>{escape(caption)}</figcaption>"
        f'<svg viewBox="-5 -5 {_WIDE + 10} {_HIGH + 10}" width="{_WIDE}" height="{_HIGH}" '
        f'role="img" fill="#36c">{dots}</svg></figure>'
    )


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5
