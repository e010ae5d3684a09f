"""What HTTP, the front end and the frames cost: tokens a second against the adapter alone.

One side is this engine, asked over sockets by the cheapest client that we can write; the other
the same adapter driven in process on prompts that are tokenised already. Both run the same
closed loop in interleaved rounds, each in processes of its own that sleep while the other is
measured. The adapter alone has the whole machine; over HTTP, client and front end need cores
too. So there is also what the runtime's process brought for each second of its own CPU: what
the front end costs on a machine with cores enough for all three.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final

import psutil

from engine.runtime.child import worker_environment
from engine.runtime.models import ModelFiles
from engine.server.text import TextCodec
from pytest_phase5.bench.limit_rounds import Result, Round
from pytest_phase5.bench.meter import busy
from pytest_phase5.bench.ratios import of_rounds
from pytest_phase5.bench.servers import Server, engine
from pytest_phase5.engines import EngineError

#: Tokens of a prompt and of an answer, requests of each stream in a round, different prompts.
PROMPT: Final = 50
OUTPUT: Final = 64
EACH: Final = 6
_PROMPTS: Final = 64
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz "
_LETTERS_PER_TOKEN: Final = 3


@dataclass(frozen=True, slots=True)
class Observed:
    """A round: what came, and the CPU seconds of the process that owns the model."""

    result: Result
    runtime: float

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.result.tokens / self.result.seconds

    @property
    def efficiency(self) -> float:
        """Tokens for each CPU second of the process that owns the model."""
        return self.result.tokens / self.runtime


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rounds next to each other."""

    http: Observed
    alone: Observed


class Driver:
    """A process of `limit_rounds`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._line()

    def run(self, given: Round) -> Result:
        """One round.

        Raises:
            EngineError: the process ended instead.
        """
        if self._process.stdin is None:
            raise AssertionError("a driver was started with a pipe")
        self._process.stdin.write(json.dumps(asdict(given)) + "\n")
        self._process.stdin.flush()
        return Result(**json.loads(self._line()))

    def _line(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise EngineError(f"a driver ended with status {self._process.wait()}")
        return line


@contextmanager
def driver(kind: str, where: str, environment: Mapping[str, str]) -> Iterator[Driver]:
    """Start a driver; it ends with its standard input."""
    command = [sys.executable, "-P", "-m", "pytest_phase5.bench.limit_rounds", kind, where]
    with subprocess.Popen(  # noqa: S603 - our own module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(environment), text=True
    ) as process:
        yield Driver(process)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What to measure at one number of streams."""

    model: ModelFiles
    streams: int
    rounds: int
    seed: int

    def measure(self, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
        """Measure; the row of a document."""
        config = folder / f"limit-{self.streams}.yaml"
        config.write_text(f"admission: {{limit: {self.streams}}}\n", encoding="utf-8")
        alone_in = worker_environment(self.model)
        with (
            engine("off", self.model, folder, config) as server,
            driver("http", server.url, os.environ) as client,
            driver("adapter", str(self.model.path), alone_in) as alone,
        ):
            return row(self.streams, self._pairs(_Sides(client, alone, _runtime(server)), say))

    def _pairs(self, sides: "_Sides", say: Callable[[str], None]) -> list[Pair]:
        given = make_round(self.model, self.streams, self.seed)
        random, pairs = _random(f"limit:{self.seed}"), []
        sides.pair(given, http_first=True)  # warms both up, and does not count
        for number in range(self.rounds):
            pair = sides.pair(given, http_first=random.choice((True, False)))
            pairs.append(pair)
            say(
                f"limit, {self.streams} streams, round {number + 1}: {pair.http.rate:.0f} of "
                f"{pair.alone.rate:.0f} tokens a second"
            )
        return pairs


@dataclass(frozen=True, slots=True)
class _Sides:
    """The processes of both, ready."""

    client: Driver
    alone: Driver
    runtime: psutil.Process

    def pair(self, given: Round, *, http_first: bool) -> Pair:
        """A round of each."""
        if http_first:
            http = self._over_http(given)
            return Pair(http, self._in_process(given))
        alone = self._in_process(given)
        return Pair(self._over_http(given), alone)

    def _over_http(self, given: Round) -> Observed:
        before = busy([self.runtime])
        result = self.client.run(given)
        return Observed(result, busy([self.runtime]) - before)

    def _in_process(self, given: Round) -> Observed:
        result = self.alone.run(given)
        return Observed(result, result.cpu_seconds)


def _runtime(server: Server) -> psutil.Process:
    """The process that owns the model."""
    (found,) = [one for one in server.processes() if "engine.runtime.worker" in one.cmdline()]
    return found


def row(streams: int, pairs: list[Pair]) -> dict[str, Any]:
    """What pairs come to."""
    return {
        "streams": streams,
        "pairs": len(pairs),
        "http_tokens_per_second": round(median(pair.http.rate for pair in pairs), 1),
        "adapter_tokens_per_second": round(median(pair.alone.rate for pair in pairs), 1),
        "share": of_rounds([pair.http.rate / pair.alone.rate for pair in pairs]).rounded(),
        "share_per_runtime_cpu": of_rounds(
            [pair.http.efficiency / pair.alone.efficiency for pair in pairs]
        ).rounded(),
    }


def make_round(model: ModelFiles, streams: int, seed: int) -> Round:
    """Different prompts of about so many tokens, the same for both."""
    source, codec = _random(f"{streams}:{seed}"), TextCodec(model.path)
    prompts = [_prompt(source, codec) for _ in range(_PROMPTS)]
    tokens = [codec.encode(prompt) for prompt in prompts]
    return Round(streams, streams * EACH, OUTPUT, prompts, tokens, model.name)


def _prompt(source: Random, codec: TextCodec) -> str:
    text = "".join(source.choices(_LETTERS, k=_LETTERS_PER_TOKEN * PROMPT))
    return text[: len(text) * PROMPT // len(codec.encode(text))]


def _random(seed: str) -> Random:
    return Random(seed)  # noqa: S311 - reproducible traffic and orders, not a secret
