"""What HTTP, the front end and the frames cost: tokens a second against the adapter alone.

    ./dev run python tests/performance/bench_http.py [--streams 32 100] [--rounds 8]

One arm is `phase5 serve --model tiny`, asked over sockets by the cheapest client that we can
write; the other the same adapter driven in process on prompts that are tokenised already. Both
run the same closed loop in interleaved rounds (A B B A), each in processes of its own that
sleep while the other is measured. The ratio of two rounds next to each other is one
observation; the interval is Student's on their logarithms.

The adapter alone has the whole machine; over HTTP, client and front end need cores too. So
the table also has the CPU seconds of each process, and the ratio of what the runtime's process
brought for each second of its own CPU: what the front end costs on a machine with cores
enough for all three.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from pytest_phase5.bench.ratios import estimate
from rich.console import Console
from rich.table import Table
from rounds import Result, Round
from starting import started

from engine.runtime.blas import child_environment
from engine.runtime.models import ModelFiles, resolve_model
from engine.server.text import TextCodec

ROUNDS = Path(__file__).with_name("rounds.py")
#: The target of the design: HTTP keeps at least this share.
TARGET = 0.85


@dataclass(frozen=True)
class Observed:
    """A round: what came, and the CPU seconds of each process that took part."""

    result: Result
    runtime: float
    front: float = 0.0

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.result.tokens / self.result.seconds

    @property
    def efficiency(self) -> float:
        """Tokens for each CPU second of the process that owns the model."""
        return self.result.tokens / self.runtime


class Driver:
    """A process of `rounds.py`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        assert self._line() == "ready"

    def run(self, given: Round) -> Result:
        """One round."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(given)) + "\n")
        self._process.stdin.flush()
        return Result(**json.loads(self._line()))

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            sys.exit(f"{self._process.args}: ended with status {self._process.wait()}")
        return line


@contextmanager
def driver(kind: str, where: str, environment: Mapping[str, str]) -> Iterator[Driver]:
    """Start a driver; it ends with its standard input."""
    with subprocess.Popen(
        [sys.executable, str(ROUNDS), kind, where],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        yield Driver(process)


@contextmanager
def engine(streams: int) -> Iterator[tuple[str, psutil.Process, psutil.Process]]:
    """An engine that lets so many streams run: its address, front end and runtime."""
    with started(f"admission: {{limit: {streams}}}\n", "--flags=off") as one:
        yield one.urls[0], one.front, one.runtime


def busy(process: psutil.Process) -> float:
    """CPU seconds so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def make_round(model: ModelFiles, streams: int, options: argparse.Namespace) -> Round:
    """Different prompts of about so many tokens, the same for both arms."""
    source = random.Random(streams)  # noqa: S311 - a reproducible choice, not a secret
    codec = TextCodec(model.path)
    tokens: list[list[int]] = []
    prompts: list[str] = []
    while len(prompts) < 64:
        prompt = "".join(source.choices("abcdefghijklmnopqrstuvwxyz ", k=3 * options.prompt))
        ids = codec.encode(prompt)
        cut = prompt[: len(prompt) * options.prompt // len(ids)]
        prompts.append(cut)
        tokens.append(codec.encode(cut))
    return Round(streams, streams * options.requests, options.output, prompts, tokens)


def compare(
    model: ModelFiles, streams: int, options: argparse.Namespace
) -> tuple[list[Observed], list[Observed]]:
    """Interleaved rounds over HTTP and in process, after one of each that does not count."""
    given = make_round(model, streams, options)
    size = sum(file.stat().st_size for file in model.path.glob("*.safetensors"))
    with ExitStack() as stack:
        url, front, runtime = stack.enter_context(engine(streams))
        client = stack.enter_context(driver("http", url, os.environ))
        alone = stack.enter_context(driver("adapter", str(model.path), child_environment(size)))

        def over_http() -> Observed:
            before = busy(runtime), busy(front)
            result = client.run(given)
            return Observed(result, busy(runtime) - before[0], busy(front) - before[1])

        def in_process() -> Observed:
            result = alone.run(given)
            return Observed(result, result.cpu_seconds)

        over_http(), in_process()
        pairs = []
        for turn in range(options.rounds):
            if turn % 2:
                second = in_process()
                pairs.append((over_http(), second))
            else:
                pairs.append((over_http(), in_process()))
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def row(streams: int, http: list[Observed], alone: list[Observed]) -> list[str]:
    """One line of the table."""
    pairs = list(zip(http, alone, strict=True))
    seconds = statistics.fmean(one.result.seconds for one in http)
    cpu = (
        statistics.fmean(figures)
        for figures in (
            [one.runtime for one in http],
            [one.front for one in http],
            [one.result.cpu_seconds for one in http],
        )
    )
    return [
        str(streams),
        f"{statistics.median(one.rate for one in http):,.0f}",
        f"{statistics.median(one.rate for one in alone):,.0f}",
        str(estimate([one.rate / other.rate for one, other in pairs])),
        str(estimate([one.efficiency / other.efficiency for one, other in pairs])),
        f"{seconds:.2f}",
        " / ".join(f"{figure:.2f}" for figure in cpu),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, nargs="+", default=[32, 100])
    parser.add_argument("--rounds", type=int, default=8, help="pairs of rounds")
    parser.add_argument("--requests", type=int, default=6, help="of each stream in a round")
    parser.add_argument("--prompt", type=int, default=50, help="tokens")
    parser.add_argument("--output", type=int, default=64, help="tokens")
    options = parser.parse_args()
    model = resolve_model("tiny")
    table = Table(
        *("streams", "HTTP tok/s", "adapter tok/s", "ratio (95 %)", "per runtime CPU second"),
        *("s a round", "CPU s: runtime / front / client"),
        title=f"tiny, {options.prompt} tokens in, {options.output} out; target {TARGET}",
    )
    for streams in options.streams:
        table.add_row(*row(streams, *compare(model, streams, options)))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
