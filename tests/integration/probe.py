"""What can be seen of a running engine from outside, and requests for it."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families
from served import PATIENCE, Served, serving, until

HOST = "127.0.0.1"

#: Samples by name and labels.
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True)
class Holdings:
    """What processes hold of the machine; a leak makes one of them larger."""

    descriptors: int
    threads: int
    children: int
    connections: int


@dataclass(frozen=True)
class Probe:
    """Looks at an engine."""

    served: Served
    log: Path

    @property
    def url(self) -> str:
        return self.served.url

    @property
    def front(self) -> psutil.Process:
        return psutil.Process(self.served.process.pid)

    @property
    def runtime(self) -> psutil.Process:
        (child,) = self.front.children()
        return child

    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def samples(self) -> Samples:
        text = httpx.get(f"{self.url}/metrics", timeout=PATIENCE).text
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        return total(self.samples(), name, **labels)

    def replica(self) -> dict[str, Any]:
        """The one runtime process, as the engine tells of it."""
        replicas: Any = self.served.status()["replicas"]
        (only,) = replicas
        found: dict[str, Any] = only
        return found

    def idle(self) -> bool:
        """Whether nothing is left of any stream: no slot, no place, no row, no KV byte."""
        now = self.samples()
        names = ("streams_in_flight", "streams_waiting", "streams_paused", "kv_bytes")
        return self.replica()["streams"] == 0 and not any(
            total(now, f"phase5_{name}") for name in names
        )

    def holdings(self) -> Holdings:
        front, runtime = self.front, self.runtime
        return Holdings(
            descriptors=front.num_fds() + runtime.num_fds(),
            threads=front.num_threads() + runtime.num_threads(),
            children=len(front.children(recursive=True)),
            connections=sum(each.status == "ESTABLISHED" for each in front.net_connections("tcp")),
        )


def total(samples: Samples, name: str, **labels: str) -> float:
    return sum(
        value
        for (known, has), value in samples.items()
        if known == name and labels.items() <= dict(has).items()
    )


@contextmanager
def probing(folder: Path, config: str, flags: str | None = "off") -> Iterator[Probe]:
    """An engine of `tiny`, which has to live to the end; see `serving`."""
    with serving(folder, flags, config=config) as served:
        probe = Probe(served, folder / "stderr")
        yield probe
        assert served.process.poll() is None, probe.log.read_text()


def eventually(condition: Callable[[], bool], what: str) -> None:
    """As `until`, saying what never became so."""
    try:
        until(condition)
    except AssertionError as error:
        raise AssertionError(f"never: {what}") from error


def body(prompt: str, tokens: int, **more: Any) -> bytes:
    """A streamed completion of exactly so many tokens."""
    document = {
        "model": "tiny",
        "prompt": prompt,
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream": True,
        "temperature": 0,
        **more,
    }
    return json.dumps(document).encode()


def head(content: bytes, **headers: str) -> bytes:
    """The head of an HTTP/1.1 request."""
    lines = {"host": HOST, "content-length": str(len(content)), **headers}
    text = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return f"POST /v1/completions HTTP/1.1\r\n{text}\r\n".encode()


def full() -> bool:
    """Whether to run unscaled."""
    return bool(os.environ.get("PHASE5_FULL"))
