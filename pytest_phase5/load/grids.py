"""A result's document as rows of words: the same for the terminal and for the page. Pure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_MIB: Final = 2**20
#: What the columns of times are called.
TIME_NAMES: Final = {
    "ttft": "TTFT",
    "tpot": "TPOT",
    "longest_gap": "ITL (longest)",
    "latency": "e2e",
}
#: What the parts of an engine are called.
PART_NAMES: Final = {"front_end": "front end", "runtime": "runtime", "engine": "caches"}
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

Part = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of words; the first `names` columns say what a row is about, the rest are figures."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 2


def heading(document: Mapping[str, Any]) -> str:
    """What ran where, in one line."""
    return (
        f"{document['profile']}: model {document['model']}, machine {document['machine']}, "
        f"engine {document['engine_version']}, time scale {document['time_scale']:g}, "
        f"seed {document['seed']}"
    )


def reading(document: Mapping[str, Any]) -> str:
    """How the numbers are to be read, in one line."""
    return (
        "times in ms from when a request was due: value [95 % interval]; "
        f"good: first token within {document['good_ttft_ms']:g} ms"
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
    """Where a growing load became too much, and for whom."""
    held = "no step held" if knee["held"] is None else f"held {knee['held']:g}/s"
    if knee["broke"] is not None:
        return f"knee: {held}, broke at {knee['broke']:g}/s: {knee['why']}"
    if knee["beyond"] is not None:
        return (
            f"knee: beyond what was shown ({held}); at {knee['beyond']:g}/s the generator was late"
        )
    return f"knee: {held}, none broke"


def loads(parts: list[Part]) -> Grid:
    """What was asked, and what was done."""
    columns: dict[str, Callable[[Part], str]] = {
        "part": lambda part: str(part["name"]),
        "flags": lambda part: str(part["flags"]),
        "driver": lambda part: str(part["driver"]),
        "n": lambda part: str(part["n"]),
        "asked/s": lambda part: number(part["rate_asked"]),
        "sent/s": lambda part: number(part["rate_achieved"]),
        "done/s": lambda part: number(part["completed_a_second"]),
        "good/s": lambda part: number(part["goodput"]),
        "good": lambda part: _share(part["good_share"]),
        "tokens/s": lambda part: number(part["tokens_a_second"]),
        "streams": lambda part: str(part["peak_streams"]),
        "CPU ms/request": lambda part: number(part["cpu_ms_a_request"]),
        "opened": lambda part: _NONE if (n := part["connections_opened"]) is None else str(n),
        "outcomes": lambda part: ", ".join(f"{name} {n}" for name, n in part["outcomes"].items()),
    }
    rows = tuple(tuple(cell(part) for cell in columns.values()) for part in parts)
    return Grid(tuple(columns), rows, names=3)


def times(parts: list[Part]) -> Grid:
    """Quantiles with their intervals."""
    rows = [
        (part["name"], called, *([interval(q) for q in part["times_ms"][name]] or [_NONE] * 3))
        for part in parts
        for name, called in TIME_NAMES.items()
    ]
    return Grid(("part", "time in ms", "P50", "P95", "P99"), tuple(rows))


def steps(parts: list[Part]) -> Grid:
    """The steps of a growing load, one after the other."""
    rows = [
        (
            part["name"],
            f"{step['rate']:g}/s",
            *(str(step["n"]), number(step["sent_a_second"]), _share(step["good_share"])),
            *(number(step["ttft_p95_ms"]), number(step["lag_p99_ms"]), step["end"]),
        )
        for part in parts
        for step in part["steps"] or ()
    ]
    columns = ("part", "asked", "n", "sent/s", "good", "TTFT P95 ms", "lag P99 ms", "result")
    return Grid(columns, tuple(rows))


def resources(parts: list[Part]) -> Grid:
    """What the engine used at most."""
    rows = [
        (
            *(part["name"], PART_NAMES.get(name, name), number(used["cpu_seconds"])),
            *(_amount(key, used[key]) for key in _RESOURCES),
            _growth(used),
        )
        for part in parts
        for name, used in part["resources"].items()
    ]
    columns = ("part", "of", "CPU s", *_RESOURCES.values(), "growth/request")
    return Grid(columns, tuple(rows))


def comparisons(rows: list[Mapping[str, Any]]) -> Grid:
    """How a run stands to its baseline."""
    told = [
        (
            *(row["part"], f"{TIME_NAMES[row['time']]} P{100 * row['share']:g}"),
            *(number(row["before"]), number(row["now"]), row["outcome"]),
        )
        for row in rows
    ]
    return Grid(("part", "against the baseline", "before ms", "now ms", ""), tuple(told))


def interval(quantile: Mapping[str, float | None]) -> str:
    """A quantile with its interval; `?` for an end that so few requests cannot give."""
    low, high = ("?" if quantile[end] is None else number(quantile[end]) for end in ("low", "high"))
    return f"{number(quantile['value'])} [{low}, {high}]"


def number(value: float | None) -> str:
    """A figure with the digits that still tell something; `-` where there is none."""
    if value is None:
        return _NONE
    return f"{value:.1f}" if abs(value) < 1_000 else f"{value:,.0f}".replace(",", " ")  # noqa: PLR2004 - digits that still tell


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{value:.1%}"


def _growth(used: Mapping[str, Any]) -> str:
    growth = used["growth_bytes_a_request"]
    if growth is None:
        return _NONE
    ends = ("?" if growth[e] is None else f"{growth[e] / 1024:.3g}" for e in ("low", "high"))
    return f"{growth['estimate'] / 1024:.3g} KiB [{', '.join(ends)}]"


def _amount(name: str, value: float | None) -> str:
    if value is None:
        return _NONE
    return f"{value / _MIB:.1f} MiB" if name.endswith("_bytes") else str(value)
