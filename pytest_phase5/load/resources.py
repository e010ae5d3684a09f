"""What an engine uses while a load runs, read beside it from the parent process.

Never from the generator's process, whose timing it would disturb. What this system cannot
tell is null.
"""

import contextlib
import re
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx
import psutil

from gates.samples import Sample
from gates.usage import ENGINE, FRONT_END, RUNTIME, Usage

#: Seconds between two readings of memory and time. One takes 0.1 ms; a run of 1,000 requests
#: on a fast model lasts for four seconds, and its slope needs tens of them.
EVERY: Final = 0.1
#: Every so many readings look for new processes and count threads, descriptors and
#: connections as well, which takes 20 ms: once a second.
WIDE: Final = 10
#: Seconds between two readings of `/metrics`, whose text takes the engine some 20 ms to write:
#: often enough to follow a cache that fills, and felt by one request in fifty.
METRICS_EVERY: Final = 1.0
#: Metrics that only the engine knows.
_METRICS: Final = {
    "kv_bytes": re.compile(r"^phase5_kv_bytes (\S+)$", re.MULTILINE),
    "prefix_bytes": re.compile(r"^phase5_prefix_bytes (\S+)$", re.MULTILINE),
    "device_bytes": re.compile(r"^phase5_device_bytes (\S+)$", re.MULTILINE),
}
_PATIENCE: Final = 10.0


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of one part, at a moment of the system's monotonic clock."""

    at: float
    part: str
    figures: dict[str, Any]


def _new_client() -> httpx.Client:
    """One for a whole run: making one costs more than asking."""
    return httpx.Client(timeout=_PATIENCE, trust_env=False)


@dataclass(slots=True)
class Watch:
    """Reads in a thread from entering the block to leaving it.

    `pid` is the engine's front end; None, for an engine that runs elsewhere, leaves only what
    its `/metrics` tell.
    """

    url: str
    pid: int | None
    clock: Callable[[], float] = time.monotonic
    readings: list[Reading] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _parts: dict[str, list[psutil.Process]] = field(default_factory=dict)
    _taken: int = 0
    _client: httpx.Client = field(default_factory=_new_client)

    def __enter__(self) -> Self:
        for read, every in ((self._processes, EVERY), (self._metrics, METRICS_EVERY)):
            thread = threading.Thread(target=self._repeat, args=(read, every), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._client.close()

    def usage(self, origin: float, samples: Iterable[Sample]) -> tuple[Usage, ...]:
        """The readings on the clock of a run that began at `origin`, beside its requests."""
        return on_the_clock(self.readings, origin, samples)

    def _repeat(self, read: Callable[[], Iterable[Reading]], every: float) -> None:
        while True:
            self.readings.extend(read())
            if self._stop.wait(every):
                return

    def _processes(self) -> Iterator[Reading]:
        if self.pid is None:
            return
        wide = self._taken % WIDE == 0
        self._taken += 1
        try:
            if wide:
                front_end = psutil.Process(self.pid)
                self._parts = {FRONT_END: [front_end], RUNTIME: front_end.children(recursive=True)}
        except psutil.Error:
            self._parts = {}  # it is gone: what was read stays
        for part, processes in self._parts.items():
            yield Reading(self.clock(), part, _figures(processes, _WIDE if wide else _NARROW))

    def _metrics(self) -> Iterator[Reading]:
        at = self.clock()
        try:
            text = self._client.get(f"{self.url}/metrics").text
        except httpx.HTTPError:
            return  # an engine that does not answer shows in the samples
        found = {name: pattern.search(text) for name, pattern in _METRICS.items()}
        figures = {name: int(float(match[1])) for name, match in found.items() if match}
        yield Reading(at, ENGINE, figures)


def on_the_clock(
    readings: Iterable[Reading], origin: float, samples: Iterable[Sample]
) -> tuple[Usage, ...]:
    """Readings as rows: their time from `origin`, and how many requests had ended by then."""
    ends = sorted(sample.end for sample in samples if sample.end is not None)
    return tuple(
        Usage(
            at=reading.at - origin,
            part=reading.part,
            requests=bisect_right(ends, reading.at - origin),
            **reading.figures,
        )
        for reading in sorted(readings, key=lambda reading: reading.at)
    )


def local_process(url: str, replicas: Sequence[int]) -> int | None:
    """The front end of an engine on this machine: the parent of its replicas, if it listens.

    None for an engine elsewhere, and wherever this cannot be told for sure: figures of a
    stranger would be worse than none.
    """
    parts = urlsplit(url)
    if parts.hostname not in {"127.0.0.1", "localhost", "::1"} or not replicas:
        return None
    try:
        parent = psutil.Process(replicas[0]).parent()
        listens = parent is not None and any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == parts.port
            for connection in parent.net_connections("tcp")
        )
    except psutil.Error:
        return None
    return parent.pid if parent is not None and listens else None


def _connections(process: psutil.Process) -> int:
    established = psutil.CONN_ESTABLISHED
    return sum(c.status == established for c in process.net_connections("tcp"))


_NARROW: Final[dict[str, Callable[[psutil.Process], Any]]] = {
    "cpu_seconds": lambda process: sum(process.cpu_times()[:2]),
    "rss_bytes": lambda process: process.memory_info().rss,
}
_WIDE: Final = {
    **_NARROW,
    "threads": lambda process: process.num_threads(),
    "descriptors": lambda process: process.num_fds(),
    "connections": _connections,
}


def _figures(
    processes: Sequence[psutil.Process], wanted: dict[str, Callable[[psutil.Process], Any]]
) -> dict[str, Any]:
    """The sums over some processes. One that ends meanwhile leaves its figures unknown."""
    sums = {name: _sum(processes, figure) for name, figure in wanted.items()}
    return {"processes": len(processes), **sums}


def _sum(
    processes: Sequence[psutil.Process], figure: Callable[[psutil.Process], Any]
) -> Any | None:
    with contextlib.suppress(psutil.Error):  # not allowed, or it ended: unknown
        return sum(figure(process) for process in processes) if processes else None
    return None
