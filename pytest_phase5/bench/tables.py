"""A document of a run as tables of words. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pytest_phase5.bench.arms import ARMS
from pytest_phase5.load.grids import Grid

Document = Mapping[str, Any]

#: Columns of the arms' table: heading, measure, digits.
_SHOWN: Final = (
    ("req/s", "requests_per_second", 1),
    ("tok/s", "tokens_per_second", 0),
    ("TTFT P50 ms", "ttft_p50_ms", 0),
    ("TTFT P95 ms", "ttft_p95_ms", 0),
    ("latency P99 ms", "latency_p99_ms", 0),
    ("CPU ms/req", "cpu_ms_per_request", 1),
    ("MiB", "most_mib", 0),
    ("MiB/stream", "mib_per_stream", 1),
)
#: Names for people.
NAMES: Final[Mapping[str, str]] = {
    "requests_per_second": "requests a second",
    "good_per_second": "first tokens within 550 ms, a second",
    "tokens_per_second": "tokens a second",
    "ttft_p95_ms": "TTFT P95",
    "latency_p99_ms": "latency P99",
    "cpu_ms_per_request": "CPU for each request",
}


def arms(document: Document) -> Grid:
    """Each arm in each comparison, by medians of its rounds."""
    lines = [
        (cell["name"], arm, *_figures(cell["rows"][arm]["measures"]), _ended(cell["rows"][arm]))
        for cell in document["cells"]
        for arm in ARMS
        if arm in cell["rows"]
    ]
    return Grid(("workload", "server", *(head for head, *_ in _SHOWN), "rounds"), tuple(lines))


def _figures(measures: Mapping[str, float]) -> Iterator[str]:
    for _, name, digits in _SHOWN:
        yield f"{measures[name]:.{digits}f}" if name in measures else "-"


def _ended(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(row["states"].items()))


def ratios(document: Document) -> Grid:
    """One arm divided by another, with the interval."""
    lines = [
        (cell["name"], measure_name(ratio["measure"]), f"{ratio['of']} / {ratio['to']}", *told)
        for cell in document["cells"]
        for ratio in cell["ratios"]
        for told in [(interval(ratio), str(ratio["pairs"]))]
    ]
    return Grid(("workload", "measure", "ratio of", "median (95 %)", "pairs"), tuple(lines), 3)


def limit(document: Document) -> Grid:
    """The share of the adapter alone that is left over HTTP."""
    lines = [
        (
            f"{row['streams']} streams",
            f"{row['http_tokens_per_second']:.0f}",
            f"{row['adapter_tokens_per_second']:.0f}",
            interval(row["share"]),
            interval(row["share_per_runtime_cpu"]),
        )
        for row in document["limit"]
    ]
    columns = ("", "HTTP tok/s", "adapter tok/s", "share (95 %)", "per runtime CPU second")
    return Grid(columns, tuple(lines), 1)


def measure_name(measure: str) -> str:
    """A measure, with its class of requests where it has one."""
    name, _, kind = measure.partition(":")
    return f"{NAMES[name]}, {kind} prompts" if kind else NAMES[name]


def interval(estimate: Mapping[str, float]) -> str:
    """A ratio with the ends of its interval, where there is one."""
    if "low" not in estimate:
        return f"{estimate['ratio']:.2f}"
    return f"{estimate['ratio']:.2f} ({estimate['low']:.2f} to {estimate['high']:.2f})"


def heading(document: Document) -> Sequence[str]:
    """What ran where, and whether the answers were the same."""
    model, versions = document["model"], document["versions"]
    where = (
        f"model {model['name']}, machine {document['machine']}, {document['cores']} cores, "
        f"mlx-lm {versions['mlx-lm']}, mlx {versions['mlx']}, "
        f"{document['rounds']} rounds in random order, seed {document['seed']}"
    )
    answers = [
        f"{arm}: {command}; {same['same']} of {same['of']} greedy answers are those of mlx-lm"
        for arm, command in document["arms"].items()
        for same in [document["identical"][arm]]
    ]
    return [where, *answers]


def reasons(document: Document) -> Sequence[str]:
    """Why rounds were not whole."""
    return [
        f"{cell['name']}, {arm}: {reason}"
        for cell in document["cells"]
        for arm, row in cell["rows"].items()
        for reason in row["reasons"]
    ]
