"""A result on disk: `result.json`, `result.csv`, `result.html`, and the raw rows under them."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gates.samples import write_rows
from gates.usage import Usage, usage_row
from pytest_phase5.load.page import page
from pytest_phase5.load.running import ProfileResult, file_name


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
