"""What each flag set costs a single stream of `tiny`, against none: latency and CPU, as JSON.

    ./dev run python tests/performance/bench_flags.py [all ttft_pipeline ...] [--rounds 12]

Short chat prompts that have nothing in common and 8-token answers, one request at a time: the
features have nothing to gain here, so this is what they cost. The engines take turns, each round
in another order. A ratio is that of one round of a flag set by the round of `off` beside it;
intervals are Student's on their logarithms. CPU is that of front end and runtime for each request.
"""

import argparse
import json
import os
import random
import socket
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass

import psutil
from overloaded import serving

from engine.core.flags import FLAGS
from pytest_phase5.bench.meter import busy
from pytest_phase5.bench.ratios import estimate

WORDS = ("river", "stone", "light", "music", "garden", "window", "silver", "morning", "paper")


@dataclass(frozen=True)
class Cost:
    """A round of one engine, in milliseconds for each request."""

    p50_ms: float
    p95_ms: float
    front_cpu_ms: float
    runtime_cpu_ms: float


class Client:
    """One connection, kept open."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").rpartition(":")
        self._socket = socket.create_connection((host, int(port)))

    def ask(self, prompt: str) -> float:
        """Seconds to the end of an answer."""
        asked = {
            "model": "tiny",
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": 8,
            "ignore_eos": True,
            "stream": True,
        }
        body = json.dumps(asked).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
        began, tail = time.perf_counter(), b""
        self._socket.sendall(head.encode() + b"\r\n" + body)
        while not tail.endswith(b"\r\n0\r\n\r\n"):
            data = self._socket.recv(1 << 16)
            if not data:
                raise RuntimeError(f"an answer that is not whole: {tail!r}")
            tail = (tail + data)[-1000:]
        seconds = time.perf_counter() - began
        if b'"finish_reason":"length"' not in tail:
            raise RuntimeError(f"an answer that is not whole: {tail!r}")
        return seconds


class Subject:
    """An engine with its client."""

    def __init__(self, url: str, runtime: int) -> None:
        self._client = Client(url)
        self._runtime = psutil.Process(runtime)
        self._front = psutil.Process(self._runtime.ppid())

    def round(self, prompts: list[str]) -> Cost:
        """Ask one after the other."""
        before = busy([self._front]), busy([self._runtime])
        took = [1000 * self._client.ask(prompt) for prompt in prompts]
        after = busy([self._front]), busy([self._runtime])
        cpu = [1000 * (b - a) / len(prompts) for a, b in zip(before, after, strict=True)]
        return Cost(
            statistics.median(took), statistics.quantiles(took, n=20, method="inclusive")[-1], *cpu
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("flag_sets", nargs="*", default=[*FLAGS, "all"])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--requests", type=int, default=60, help="of a round")
    options = parser.parse_args()
    names = ["off", *options.flag_sets]
    source = random.Random(7)  # noqa: S311  # a reproducible choice, not a secret
    found: dict[str, list[Cost]] = {name: [] for name in names}
    with ExitStack() as stack:
        subjects = {}
        for name in names:
            under = stack.enter_context(serving(name))
            subjects[name] = Subject(under.url, under.runtime)
        for turn in range(-1, options.rounds):
            prompts = [
                " ".join(source.choices(WORDS, k=source.randint(4, 12)))
                for _ in range(options.requests)
            ]
            for name in source.sample(names, len(names)):
                cost = subjects[name].round(prompts)
                if turn >= 0:  # the first one warms up
                    found[name].append(cost)
            print(turn, file=sys.stderr, flush=True)  # noqa: T201  # progress
    report = {
        "load": os.getloadavg(),
        "off": {key: statistics.median(vars_of(found["off"], key)) for key in KEYS},
        "ratios": {
            name: {
                key: str(
                    estimate(
                        [
                            a / b
                            for a, b in zip(
                                vars_of(found[name], key), vars_of(found["off"], key), strict=True
                            )
                        ]
                    )
                )
                for key in KEYS
            }
            for name in options.flag_sets
        },
    }
    print(json.dumps(report, indent=1))  # noqa: T201  # the result


KEYS = ("p50_ms", "p95_ms", "front_cpu_ms", "runtime_cpu_ms")


def vars_of(costs: list[Cost], key: str) -> list[float]:
    """One quantity of every round."""
    return [asdict(cost)[key] for cost in costs]


if __name__ == "__main__":
    main()
