"""An engine under overload, and what is seen of it second by second.

The runtime has the first core and everything else the second one, so that the engine and not
the generator is what saturates.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from prometheus_client.parser import text_string_to_metric_families
from starting import started

#: The runtime is stopped and goes on for so long in turn: well below the limit for TTFT.
DUTY_SECONDS: Final = 0.015
#: What of `/metrics` a second's row holds: name of the sample, and its name in the row.
SEEN: Final = {
    "phase5_concurrency_limit": "limit",
    "phase5_governor_ttft_p95_seconds": "ttft_p95",
    "phase5_streams_waiting": "queue",
    "phase5_streams_in_flight": "live",
    "phase5_slot_hold_seconds": "hold",
    "phase5_prefill_tokens_per_second": "read_speed",
    "phase5_prefill_unread_tokens": "unread",
}


@dataclass
class Engine:
    """A running engine, and what was seen of it: a row for each second of `watched`."""

    url: str
    runtime: int
    seconds: list[dict[str, float]] = field(default_factory=list)

    @property
    def limits(self) -> list[int]:
        """The limit of each second."""
        return [int(row["limit"]) for row in self.seconds]

    def status(self) -> dict[str, Any]:
        """`/v1/status`."""
        document: dict[str, Any] = httpx.get(f"{self.url}/v1/status", timeout=30).json()
        return document

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note every second how it stands."""

        def watch(over: threading.Event) -> None:
            with httpx.Client(base_url=self.url, timeout=30) as client:
                while not over.wait(1.0):
                    self.seconds.append(_row(client.get("/metrics").text))

        with _beside(watch):
            yield


@contextmanager
def _beside(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Work in a thread until the block is over."""
    over = threading.Event()
    thread = threading.Thread(target=work, args=(over,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _row(text: str) -> dict[str, float]:
    """What `SEEN` names, and what was shed so far by cause."""
    row = {"at": round(time.monotonic(), 2)}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in SEEN:
                row[SEEN[sample.name]] = round(sample.value, 4)
            elif sample.name == "phase5_streams_shed_total":
                row[sample.labels["cause"]] = sample.value
    return row


@contextmanager
def serving(flags: str, yaml: str = "") -> Iterator[Engine]:
    """An engine whose runtime has the first core to itself."""
    with started(f"admission: {{queue: 200}}\n{yaml}", f"--flags={flags}") as one:
        for thread in Path(f"/proc/{one.runtime.pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {0})
        yield Engine(one.urls[0], one.runtime.pid)


@contextmanager
def halved(runtime: int) -> Iterator[None]:
    """Let a process run half of the time."""

    def cycle(over: threading.Event) -> None:
        while not over.wait(DUTY_SECONDS):
            os.kill(runtime, signal.SIGSTOP)
            over.wait(DUTY_SECONDS)
            os.kill(runtime, signal.SIGCONT)

    with _beside(cycle):
        yield
