"""HTTP/2 beside HTTP/1.1: connections, CPU and latency of the same streams, and reloads.

    ./dev run python tests/performance/bench_http2.py [--streams 50] [--rounds 10] [--reloads 50]

One engine of `tiny` serves both ports; one client library speaks both protocols. The arms take
turns (A B B A), each round with new connections. A ratio is HTTP/2 by HTTP/1.1 of two
neighbouring rounds; intervals are Student's on their logarithms. Then the configuration is
reloaded again and again under the same number of streams. The result is one JSON object on
standard output.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families
from pyreqwest.client import Client, ClientBuilder
from starting import started

from pytest_phase5.bench.meter import busy
from pytest_phase5.bench.ratios import estimate

BODY = {"model": "tiny", "prompt": "The committee met on Tuesday", "stream": True}
PATIENCE = 120.0


@dataclass(frozen=True)
class Observed:
    """A round of one protocol."""

    connections: float
    cpu_ms: float  # of the front end, for each request
    first_ms: float  # median time to the first event
    latency_ms: float  # median


@dataclass(frozen=True)
class Engine:
    """A running engine and what is known of it."""

    url: str
    h2_url: str
    config: Path
    front: psutil.Process

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples that carry these labels."""
        text = httpx.get(f"{self.url}/metrics", timeout=PATIENCE).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


def configuration(generation: int, streams: int) -> str:
    """Every stream is told of the second port."""
    share = "enabled: true, rollout_percentage: 100, holdback_percentage: 0"
    return (
        f"generation: {generation}\nadmission: {{limit: {streams}}}\n"
        f"phase4_rollout:\n  http2_transport: {{{share}}}\n"
    )


@contextmanager
def engine(streams: int) -> Iterator[Engine]:
    """An engine that lets so many streams run."""
    with started(configuration(0, streams), ports=2) as one:
        yield Engine(*one.urls, one.config, one.front)


async def stream(client: Client, url: str, output: int) -> tuple[float, float]:
    """One stream to its end: milliseconds to its first event, and to its last."""
    asked = {**BODY, "max_tokens": output, "ignore_eos": True, "temperature": 0}
    request = client.post(f"{url}/v1/completions").body_bytes(json.dumps(asked).encode())
    began, first, tail = time.perf_counter(), 0.0, b""
    async with request.streamed_read_buffer_limit(0).build_streamed() as response:
        while chunk := await response.body_reader.read_chunk():
            first = first or time.perf_counter() - began
            tail = (tail + bytes(chunk))[-20:]
    if response.status != 200 or not tail.endswith(b"[DONE]\n\n"):
        raise RuntimeError(f"a stream that is not whole: {response.status} {tail!r}")
    return first * 1000, (time.perf_counter() - began) * 1000


async def streams(
    url: str, options: argparse.Namespace, *, http2: bool
) -> list[tuple[float, float]]:
    """Every stream at once, some times over, by one client."""
    builder = ClientBuilder()
    builder = builder.http2_prior_knowledge() if http2 else builder.http1_only()
    async with builder.build() as client:
        done = []
        for _ in range(options.repeats):
            each = (stream(client, url, options.output) for _ in range(options.streams))
            done += await asyncio.gather(*each)
        return done


def observe(under: Engine, options: argparse.Namespace, *, http2: bool) -> Observed:
    """One round."""
    opened = {"protocol": "http2" if http2 else "http1"}
    before = under.metric("phase5_connections_opened_total", **opened)
    cpu = busy([under.front])
    url = under.h2_url if http2 else under.url
    done = asyncio.run(streams(url, options, http2=http2))
    cpu = busy([under.front]) - cpu
    # Reading the metrics is a connection of HTTP/1.1 as well.
    asked = 0 if http2 else 1
    return Observed(
        under.metric("phase5_connections_opened_total", **opened) - before - asked,
        cpu * 1000 / len(done),
        statistics.median(first for first, _ in done),
        statistics.median(last for _, last in done),
    )


async def reload_under_streams(under: Engine, options: argparse.Namespace) -> int:
    """Reload again and again while streams run; the number of streams, all of them whole."""
    served, over = 0, False

    async def keep_going(client: Client) -> None:
        nonlocal served
        while not over:
            await stream(client, under.h2_url, options.output)
            served += 1

    async with (
        ClientBuilder().http2_prior_knowledge().build() as client,
        httpx.AsyncClient(timeout=PATIENCE) as admin,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(options.streams):
            group.create_task(keep_going(client))
        for generation in range(1, options.reloads + 1):
            under.config.write_text(configuration(generation, options.streams))
            (await admin.post(f"{under.url}/admin/reload")).raise_for_status()
        over = True
    return served


def swap_quantile(under: Engine, share: float) -> float:
    """The bucket edge under which this share of the swaps lies, in milliseconds."""
    name = "phase5_reload_swap_seconds"
    total = under.metric(f"{name}_count")
    for edge in ("0.0001", "0.001", "0.005", "0.01", "0.025", "0.05", "0.1", "1.0"):
        if under.metric(f"{name}_bucket", le=edge) >= share * total:
            return float(edge) * 1000
    return float("inf")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=10, help="pairs of rounds")
    parser.add_argument("--repeats", type=int, default=2, help="streams one after the other")
    parser.add_argument("--output", type=int, default=32, help="tokens")
    parser.add_argument("--reloads", type=int, default=50)
    options = parser.parse_args()
    load = os.getloadavg()
    pairs: list[tuple[Observed, Observed]] = []
    with engine(options.streams) as under:
        observe(under, options, http2=True), observe(under, options, http2=False)
        for turn in range(options.rounds):
            order = (True, False) if turn % 2 else (False, True)
            by = {http2: observe(under, options, http2=http2) for http2 in order}
            pairs.append((by[True], by[False]))
        before = under.metric("phase5_reload_swap_seconds_count")
        served = asyncio.run(reload_under_streams(under, options))
        swaps = under.metric("phase5_reload_swap_seconds_count") - before
        p99 = swap_quantile(under, 0.99)
    measures = ("cpu_ms", "first_ms", "latency_ms")
    report = {
        "what": "HTTP/2 by HTTP/1.1, geometric mean of paired rounds (95 % interval)",
        "options": vars(options),
        "cores": os.cpu_count(),
        "load": [load, os.getloadavg()],
        "connections": {
            "http2": statistics.median(pair[0].connections for pair in pairs),
            "http1": statistics.median(pair[1].connections for pair in pairs),
        },
        "ratios": {
            name: estimate([getattr(a, name) / getattr(b, name) for a, b in pairs]).rounded()
            for name in measures
        },
        "rounds": [[asdict(each) for each in pair] for pair in pairs],
        "reload": {"swaps": swaps, "p99_ms_at_most": p99, "streams_whole": served, "errors": 0},
    }
    json.dump(report, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
