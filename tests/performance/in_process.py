"""Drives the adapter in this very process on pre-tokenised prompts: no server, no frames.

    ./dev run python tests/performance/in_process.py --model tiny --streams 32 100

Prints one JSON object a line, one for each number of streams. `measure` starts it as the
runtime process is started, with the same BLAS: that is what other benchmarks call.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from engine.runtime import blas
from engine.runtime.messages import Submit
from engine.runtime.models import resolve_model
from pytest_phase5.bench.adapter import load_adapter

if TYPE_CHECKING:  # mlx must see the right BLAS, which only the child process has
    from engine.runtime.adapter import Adapter

#: The mix of the load tests: so many prompt tokens, at least and at most, and so many out.
PROMPT_TOKENS = (25, 75)
OUTPUT_TOKENS = 16

#: Streams that end before the clock starts: the pace of prefill is known, every shape was seen.
WARM_UP = 300


@dataclass(frozen=True, slots=True)
class Rate:
    """What a closed loop of so many streams came to."""

    streams: int
    requests: int
    output_tokens: int
    seconds: float
    tokens_per_second: float
    requests_per_second: float


def measure(model: str, streams: Sequence[int], seconds: float) -> list[Rate]:
    """Rates for each number of streams, from a process of its own."""
    size = sum(file.stat().st_size for file in resolve_model(model).path.glob("*.safetensors"))
    command = [sys.executable, __file__, "--model", model, "--seconds", str(seconds)]
    child = subprocess.run(
        [*command, "--streams", *map(str, streams)],
        env=blas.child_environment(size),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return [Rate(**json.loads(line)) for line in child.stdout.splitlines()]


def requests(vocabulary: int, count: int = 2000) -> list[Submit]:
    """The same prompts each time."""
    source = random.Random(5)  # noqa: S311  # a reproducible choice, not a secret
    lengths = [source.randint(*PROMPT_TOKENS) for _ in range(count)]
    return [
        Submit(
            uid=uid,
            prompt=[source.randrange(4, vocabulary) for _ in range(length)],
            max_tokens=OUTPUT_TOKENS,
            seed=uid,
            ignore_eos=True,
        )
        for uid, length in enumerate(lengths)
    ]


def drive(adapter: "Adapter", given: Sequence[Submit], streams: int, seconds: float) -> Rate:
    """Keep so many streams going for so long, each followed by the next when it ends."""
    following = cycle(given)
    for _ in range(streams):
        adapter.submit(next(following))
    _turns(adapter, following, until_ended=WARM_UP)
    began = time.perf_counter()
    ended, tokens = _turns(adapter, following, until=began + seconds)
    passed = time.perf_counter() - began
    while adapter.busy:  # what is still under way does not count
        adapter.step()
    return Rate(streams, ended, tokens, passed, tokens / passed, ended / passed)


def _turns(
    adapter: "Adapter",
    following: "cycle[Submit]",
    until: float = float("inf"),
    until_ended: float = float("inf"),
) -> tuple[int, int]:
    ended = tokens = 0
    while ended < until_ended and time.perf_counter() < until:
        turn = adapter.step()
        tokens += len(turn.tokens)
        for token in turn.tokens:
            if token.finish:
                ended += 1
                adapter.submit(next(following))
    return ended, tokens


def main() -> None:
    """Measure here, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--streams", type=int, nargs="+", default=[32, 100])
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    folder: Path = resolve_model(options.model).path
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    adapter = load_adapter(folder)
    for streams in options.streams:
        rate = drive(adapter, requests(vocabulary), streams, options.seconds)
        print(json.dumps(asdict(rate)), flush=True)  # noqa: T201  # the result


if __name__ == "__main__":
    main()
