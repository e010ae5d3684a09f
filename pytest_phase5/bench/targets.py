"""What the benchmarks are held to, and what of it their files show. Pure.

The numbers are those of the requirements and of the issue that asked for the comparison; a
ratio is the median of the rounds of one interleaved run.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pytest_phase5.bench.tables import interval

Files = Mapping[str, Mapping[str, Any]]  #: documents by the names of their files, without suffix
#: A number with how it is written, or None where the files do not have it.
Found = tuple[float, str] | None


@dataclass(frozen=True, slots=True)
class Target:
    """One number that was asked for: in words, its bound, and where it is found."""

    text: str
    bound: float
    at_least: bool
    find: Callable[[Files], Found]

    def met(self, value: float) -> bool:
        """Whether a number reaches it."""
        return value >= self.bound if self.at_least else value <= self.bound

    @property
    def asked(self) -> str:
        """The bound in words."""
        return f"at {'least' if self.at_least else 'most'} {self.bound:g}"


def ratio(file: str, cell: str, measure: str, of: str, to: str) -> Callable[[Files], Found]:
    """A ratio of a comparison; `to` is `peer` for the better row of the peer."""

    def find(files: Files) -> Found:
        for one in _cell(files, file, cell).get("ratios", ()):
            if one["measure"] == measure and one["of"] == of and one["to"].startswith(to):
                return one["ratio"], f"{interval(one)}, {one['pairs']} rounds"
        return None

    return find


def value(file: str, cell: str, arm: str, measure: str, unit: str) -> Callable[[Files], Found]:
    """A median of an arm."""

    def find(files: Files) -> Found:
        row = _cell(files, file, cell).get("rows", {}).get(arm)
        found = row and row["measures"].get(measure)
        return None if found is None else (found, f"{found:.0f} {unit}")

    return find


def share(file: str, streams: int) -> Callable[[Files], Found]:
    """The share of the adapter alone."""

    def find(files: Files) -> Found:
        for row in files.get(file, {}).get("limit", ()):
            if row["streams"] == streams:
                return row["share"]["ratio"], f"{interval(row['share'])}, {row['pairs']} rounds"
        return None

    return find


def _http2(name: str) -> Callable[[Files], Found]:
    def find(files: Files) -> Found:
        found = files.get("http2", {}).get("ratios", {}).get(name)
        return None if found is None else (found["ratio"], interval(found))

    return find


def _connections(files: Files) -> Found:
    found = files.get("http2", {}).get("connections")
    if found is None:
        return None
    return found["http2"], f"{found['http2']:g}, HTTP/1.1 {found['http1']:g}"


def _ready(files: Files) -> Found:
    found = files.get("start", {}).get("seconds", {}).get("off")
    if found is None:
        return None
    slowest = f"{found['ready_slowest']:.2f}"
    return found["ready_median"], f"{found['ready_median']:.2f} s (slowest {slowest})"


def _import(files: Files) -> Found:
    found = files.get("plugin", {}).get("import_ms")
    if found is None:
        return None
    return found["median"], f"{found['median']:.1f} ms (slowest {found['slowest']:.1f})"


def _suite(files: Files) -> Found:
    """Not measurably slower: the lower end of the interval is not above 1."""
    found = files.get("plugin", {}).get("suite")
    return None if found is None else (found["low"], f"{interval(found)}, {found['pairs']} pairs")


def _cell(files: Files, file: str, name: str) -> Mapping[str, Any]:
    cells = files.get(file, {}).get("cells", ())
    return next((cell for cell in cells if cell["name"] == name), {})


def _chat(streams: int) -> str:
    return f"chat, {streams} streams"


_SHARED: Final = ("smol-shared", "shared, 8 streams")
_UNSHARED: Final = ("smol-unshared", "unshared, 8 streams")
_MIXED: Final = ("smol-mixed", "mixed, 8 streams")
_RATE, _FIRST, _LAST = "requests_per_second", "ttft_p95_ms", "latency_p99_ms"
_SMOL: Final = "`smollm2-135m`, 8 streams"

TARGETS: Final = (
    Target(
        "requests a second, on / peer, `tiny`, 8 streams",
        1.5,
        at_least=True,
        find=ratio("tiny-small", _chat(8), _RATE, "on", "peer"),
    ),
    Target(
        "the same, 32 streams",
        2.0,
        at_least=True,
        find=ratio("tiny-small", _chat(32), _RATE, "on", "peer"),
    ),
    Target(
        "the same, 100 streams",
        5.0,
        at_least=True,
        find=ratio("tiny-100", _chat(100), _RATE, "on", "peer"),
    ),
    Target(
        "TTFT P95, on / peer, `tiny`, 32 streams",
        0.6,
        at_least=False,
        find=ratio("tiny-small", _chat(32), _FIRST, "on", "peer"),
    ),
    Target(
        "the same, 75 streams",
        0.1,
        at_least=False,
        find=ratio("tiny-75", _chat(75), _FIRST, "on", "peer"),
    ),
    Target(
        f"latency P99, on / off, {_SMOL}, shared prompt",
        0.67,
        at_least=False,
        find=ratio(*_SHARED, _LAST, "on", "off"),
    ),
    Target(
        f"requests a second, on / peer, {_SMOL}, shared 200-token prompt",
        1.5,
        at_least=True,
        find=ratio(*_SHARED, _RATE, "on", "peer"),
    ),
    Target(
        "the same, nothing shared",
        1.0,
        at_least=True,
        find=ratio(*_UNSHARED, _RATE, "on", "peer"),
    ),
    Target(
        f"TTFT P95, on / peer, {_SMOL}, shared prompt",
        0.5,
        at_least=False,
        find=ratio(*_SHARED, _FIRST, "on", "peer"),
    ),
    Target(
        "the same, mixed lengths, short prompts",
        0.6,
        at_least=False,
        find=ratio(*_MIXED, f"{_FIRST}:short", "on", "peer"),
    ),
    Target(
        "the same, mixed lengths, long prompts",
        1.3,
        at_least=False,
        find=ratio(*_MIXED, f"{_FIRST}:long", "on", "peer"),
    ),
    Target(
        f"requests a second, on / off, {_SMOL}, shared prompt",
        1.3,
        at_least=True,
        find=ratio(*_SHARED, _RATE, "on", "off"),
    ),
    Target(
        f"TTFT P95, on / off, {_SMOL}, shared prompt",
        0.69,
        at_least=False,
        find=ratio(*_SHARED, _FIRST, "on", "off"),
    ),
    Target(
        "requests a second, on, `tiny`, 100 streams",
        150,
        at_least=True,
        find=value("tiny-100", _chat(100), "on", _RATE, "a second"),
    ),
    Target(
        "TTFT P95 in milliseconds, on, `tiny`, 75 streams",
        550,
        at_least=False,
        find=value("tiny-75", _chat(75), "on", _FIRST, "ms"),
    ),
    Target(
        "tokens a second, HTTP / adapter in process, `tiny`, 32 streams",
        0.85,
        at_least=True,
        find=share("limit", 32),
    ),
    Target("the same, 100 streams", 0.85, at_least=True, find=share("limit", 100)),
    Target("HTTP/2, 50 streams: connections", 1, at_least=False, find=_connections),
    Target(
        "HTTP/2 / HTTP/1.1, 50 streams: CPU for each request",
        1.05,
        at_least=False,
        find=_http2("cpu_ms"),
    ),
    Target("the same: latency", 1.05, at_least=False, find=_http2("latency_ms")),
    Target("`phase5 serve` on `tiny`, seconds to ready", 2.5, at_least=False, find=_ready),
    Target("import of the unused plugin, milliseconds", 5, at_least=False, find=_import),
    Target("1,000 tests, with / without the plugin: lower end", 1.0, at_least=False, find=_suite),
)


def standing(files: Files) -> Iterator[tuple[Target, Found]]:
    """Every target with what the files have of it."""
    for target in TARGETS:
        yield target, target.find(files)
