"""A result's document for people: aligned tables, never wrapped or cut off a terminal."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

_MIB: Final = 2**20
#: What the columns of times are called.
TIME_NAMES: Final = {
    "ttft": "TTFT",
    "tpot": "TPOT",
    "longest_gap": "ITL (longest)",
    "latency": "e2e",
}
_RESOURCES: Final = {
    "rss_bytes": "memory",
    "threads": "threads",
    "descriptors": "descriptors",
    "connections": "connections",
    "kv_bytes": "KV",
    "prefix_bytes": "prefixes",
    "device_bytes": "GPU/Metal",
}
_NONE: Final = "-"


def show(document: Mapping[str, Any], console: Console) -> None:
    """Print a document."""
    console.print(Group(*_blocks(document)), soft_wrap=True)


def heading(document: Mapping[str, Any]) -> str:
    """What ran where, in one line."""
    return (
        f"{document['profile']}: model {document['model']}, machine {document['machine']}, "
        f"engine {document['engine_version']}, time scale {document['time_scale']:g}, "
        f"seed {document['seed']}"
    )


def state(document: Mapping[str, Any]) -> str:
    """Whether the result counts, in two words."""
    whole = "complete" if document["complete"] else "incomplete"
    return f"{'valid' if document['valid'] else 'invalid'}, {whole}"


def notes(document: Mapping[str, Any]) -> Iterator[str]:
    """All that a table cannot hold, a line each."""
    for part in document["parts"]:
        for reason in part["reasons"]:
            yield f"{part['name']}: invalid: {reason}"
        if part["knee"]:
            yield f"{part['name']}: {knee_text(part['knee'])}"
        for leak in part["leak"] or ():
            yield f"{part['name']}: {leak['outcome']}: {leak['reason']}"
    if not document["self_checked"]:
        yield "a rehearsal (time scale below 1): the generator's self-check was left out"
    for text in document["skipped"]:
        yield f"not run: {text}"
    for text in document["not_shown_here"]:
        yield f"not shown here: {text}"


def knee_text(knee: Mapping[str, Any]) -> str:
    """Where a growing load became too much."""
    held = "no step held" if knee["held"] is None else f"held {knee['held']:g}/s"
    broke = (
        "none broke" if knee["broke"] is None else f"broke at {knee['broke']:g}/s: {knee['why']}"
    )
    return f"knee: {held}, {broke}"


def _blocks(document: Mapping[str, Any]) -> Iterator[RenderableType]:
    yield Text(heading(document), style="bold")
    yield Text(
        "times in ms from when a request was due: value [95 % interval]; "
        f"good: first token within {document['good_ttft_ms']:g} ms"
    )
    yield Text()
    yield _loads(document["parts"])
    yield Text()
    yield _times(document["parts"])
    yield Text()
    yield _resources(document["parts"])
    if document["comparisons"]:
        yield Text()
        yield _comparisons(document["comparisons"])
    yield Text()
    yield from (Text(note) for note in notes(document))
    yield Text(state(document), style="bold green" if document["valid"] else "bold red")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number > 1 else "left", no_wrap=True)
    return table


def _loads(parts: list[dict[str, Any]]) -> Table:
    table = _table(
        *(
            "part",
            "flags",
            "n",
            "asked/s",
            "sent/s",
            "done/s",
            "good/s",
            "good",
            "tokens/s",
            "streams",
        ),
        *("CPU ms/request", "opened", "outcomes"),
    )
    for part in parts:
        table.add_row(
            part["name"],
            part["flags"],
            str(part["n"]),
            _number(part["rate_asked"]),
            _number(part["rate_achieved"]),
            _number(part["completed_a_second"]),
            _number(part["goodput"]),
            _NONE if part["good_share"] is None else f"{part['good_share']:.1%}",
            _number(part["tokens_a_second"]),
            str(part["peak_streams"]),
            _number(part["cpu_ms_a_request"]),
            _NONE if part["connections_opened"] is None else str(part["connections_opened"]),
            ", ".join(f"{name} {count}" for name, count in part["outcomes"].items()),
        )
    return table


def _times(parts: list[dict[str, Any]]) -> Table:
    table = _table("part", "time", "P50", "P95", "P99")
    for part in parts:
        for name, called in TIME_NAMES.items():
            cells = [interval(quantile) for quantile in part["times_ms"][name]]
            table.add_row(part["name"], called, *(cells or [_NONE] * 3))
    return table


def interval(quantile: Mapping[str, float | None]) -> str:
    """A quantile with its interval; `?` for an end that so few requests cannot give."""
    low, high = (
        "?" if quantile[end] is None else _number(quantile[end]) for end in ("low", "high")
    )
    return f"{_number(quantile['value'])} [{low}, {high}]"


def _resources(parts: list[dict[str, Any]]) -> Table:
    table = _table("part", "of", "CPU s", *_RESOURCES.values(), "growth/request")
    for part in parts:
        for name, used in part["resources"].items():
            cells = (_amount(key, used[key]) for key in _RESOURCES)
            table.add_row(part["name"], name, _number(used["cpu_seconds"]), *cells, _growth(used))
    return table


def _growth(used: Mapping[str, Any]) -> str:
    growth = used["growth_bytes_a_request"]
    if growth is None:
        return _NONE
    ends = ("?" if growth[e] is None else f"{growth[e] / 1024:.3g}" for e in ("low", "high"))
    return f"{growth['estimate'] / 1024:.3g} KiB [{', '.join(ends)}]"


def _comparisons(rows: list[dict[str, Any]]) -> Table:
    table = _table("part", "against the baseline", "before ms", "now ms", "")
    for row in rows:
        what = f"{TIME_NAMES[row['time']]} P{100 * row['share']:g}"
        table.add_row(
            row["part"], what, _number(row["before"]), _number(row["now"]), row["outcome"]
        )
    return table


def _amount(name: str, value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value / _MIB:.1f} MiB" if name.endswith("_bytes") else str(value)


def _number(value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value:.1f}" if abs(value) < 1_000 else f"{value:,.0f}".replace(",", " ")  # noqa: PLR2004 - digits that still tell
