"""What speculation does to the tokens a second, in process: JSON.

    ./dev run python tests/performance/bench_speculation.py --case repeat chat --streams 1 8

- `repeat`: answers that copy a text of the prompt;
- `extract`: answers that are made of pieces of the prompt;
- `chat`: ordinary questions, drawn at temperature 0.7, where little repeats itself.

One adapter runs the same closed loop in interleaved rounds, with streams that may have drafts and
with streams that may not (A B B A), as the flag does it. Two rounds next to each other give one
ratio of tokens a second; the interval is Student's on their logarithms. Prompts are read in both
arms alike and their time counts. The outputs of both arms are compared.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.runtime import blas
from engine.runtime.messages import Sampling, Submit
from engine.runtime.models import resolve_model
from engine.server.text import TextCodec
from pytest_phase5.bench.adapter import load_adapter
from pytest_phase5.bench.ratios import estimate

if TYPE_CHECKING:  # mlx must see the right BLAS, which only a process that starts with it does
    from engine.runtime.adapter import Adapter

#: Set in the process that was started with the runtime's environment.
STARTED = "PHASE5_BENCH_STARTED"

SUBJECTS = ("rivers", "bridges", "bees", "ships", "clocks", "bread", "maps", "winters", "letters")
PLACES = ("Lisbon", "Oslo", "Kyoto", "Quito", "Dakar", "Perth", "Riga", "Turin", "Cork")
QUESTIONS = (
    "Why is the sky blue?",
    "Write a short story about a lighthouse.",
    "Explain how a bicycle stays upright.",
    "What should I cook with potatoes and eggs?",
    "Describe the city of Paris to a child.",
    "Give me three ideas for a birthday present.",
    "How do vaccines work?",
    "Write a poem about the sea.",
    "What is the difference between a lake and a pond?",
)


@dataclass(frozen=True)
class Case:
    """What is asked. `prompts` are as many as a round needs."""

    name: str
    streams: int
    output: int
    sampling: Sampling
    prompts: list[list[int]]


@dataclass(frozen=True)
class Round:
    """What one round brought."""

    outputs: list[list[int]]
    seconds: float
    cpu_seconds: float
    drafted: int
    accepted: int

    @property
    def tokens_per_second(self) -> float:
        """Of all streams together."""
        return sum(map(len, self.outputs)) / self.seconds

    @property
    def tokens_per_cpu_second(self) -> float:
        """By this process's time on all processors: others on the machine disturb it less."""
        return sum(map(len, self.outputs)) / self.cpu_seconds


def text(number: int, sentences: int) -> str:
    """Sentences that differ from one number to the next."""
    pick = lambda words, step: words[(number + step) % len(words)]  # noqa: E731  # used here only
    return " ".join(
        f"In {pick(PLACES, 2 * at)} the museum of {pick(SUBJECTS, 3 * at + number)} has "
        f"{(7 * number + 13 * at) % 90 + 10} rooms and opens at {(number + at) % 4 + 7} o'clock."
        for at in range(sentences)
    )


def asked(name: str, number: int) -> str:
    """One user's message."""
    if name == "repeat":
        return f"Repeat this text exactly, word for word:\n\n{text(number, 4)}"
    if name == "extract":
        return f"{text(number, 4)}\n\nList each museum of this text with its city and its rooms."
    return QUESTIONS[number % len(QUESTIONS)]


def cases(
    names: Sequence[str], streams: Sequence[int], codec: TextCodec, output: int
) -> list[Case]:
    """Every case at every number of streams."""
    return [
        Case(
            name,
            many,
            output,
            Sampling(temperature=0.7 if name == "chat" else 0.0),
            [
                codec.encode_chat([{"role": "user", "content": asked(name, number)}])
                for number in range(max(2, many))
            ],
        )
        for name in names
        for many in streams
    ]


class Driver:
    """Runs rounds on one adapter."""

    def __init__(self, adapter: "Adapter") -> None:
        self._adapter = adapter
        self._uid = 0

    def run(self, case: Case, *, speculate: bool) -> Round:
        """A closed loop over the prompts."""
        outputs: dict[int, list[int]] = {}
        requests = self._requests(case, speculate=speculate)
        drafted = accepted = 0
        began, cpu = time.perf_counter(), time.process_time()
        for request in islice(requests, case.streams):
            outputs[request.uid] = []
            self._adapter.submit(request)
        while self._adapter.busy:
            turn = self._adapter.step()
            drafted, accepted = drafted + turn.drafted, accepted + turn.accepted
            for token in turn.tokens:
                outputs[token.uid].append(token.token)
                if token.finish:
                    for request in islice(requests, 1):
                        outputs[request.uid] = []
                        self._adapter.submit(request)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        return Round(list(outputs.values()), seconds, cpu, drafted, accepted)

    def _requests(self, case: Case, *, speculate: bool) -> Iterator[Submit]:
        for seed, prompt in enumerate(case.prompts):
            self._uid += 1
            yield Submit(
                uid=self._uid,
                prompt=prompt,
                max_tokens=case.output,
                seed=seed,
                sampling=case.sampling,
                ignore_eos=True,
                speculate=speculate,
            )


def compare(driver: Driver, case: Case, pairs: int) -> dict[str, Any]:
    """Interleaved rounds, after one of each that does not count."""
    off, on = driver.run(case, speculate=False), driver.run(case, speculate=True)
    rounds: list[tuple[Round, Round]] = []
    for turn in range(pairs):
        first = driver.run(case, speculate=turn % 2 == 0)
        second = driver.run(case, speculate=turn % 2 == 1)
        on, off = (first, second) if turn % 2 == 0 else (second, first)
        rounds.append((on, off))
        rates = f"{on.tokens_per_second:.1f} {off.tokens_per_second:.1f}"
        print(case.name, case.streams, rates, file=sys.stderr, flush=True)  # noqa: T201  # progress
    drafted = sum(on.drafted for on, _ in rounds)
    outputs = [pair for on, off in rounds for pair in zip(on.outputs, off.outputs, strict=True)]
    return {
        "case": case.name,
        "streams": case.streams,
        **estimate([on.tokens_per_second / off.tokens_per_second for on, off in rounds]).rounded(),
        "by_cpu": estimate(
            [on.tokens_per_cpu_second / off.tokens_per_cpu_second for on, off in rounds]
        ).rounded(),
        "on_tokens_per_second": round(
            statistics.median(on.tokens_per_second for on, _ in rounds), 1
        ),
        "off_tokens_per_second": round(
            statistics.median(off.tokens_per_second for _, off in rounds), 1
        ),
        "drafted": drafted,
        "accepted": sum(on.accepted for on, _ in rounds) / drafted if drafted else None,
        "different_outputs": sum(on != off for on, off in outputs),
        "outputs": len(outputs),
    }


def start_with_blas(folder: Path) -> None:
    """Start this program anew as the runtime's process is started, unless it was."""
    if STARTED in os.environ:
        return
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    environment = {**blas.child_environment(size), STARTED: "1"}
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)  # noqa: S606  # itself


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--case", nargs="+", default=["repeat", "extract", "chat"])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--output", type=int, default=64)
    parser.add_argument("--draft-tokens", type=int, default=8)
    parser.add_argument("--draft-model")
    options = parser.parse_args()
    folder = resolve_model(options.model).path
    start_with_blas(folder)
    adapter = load_adapter(
        folder,
        draft_tokens=options.draft_tokens,
        draft_folder=resolve_model(options.draft_model).path if options.draft_model else None,
    )
    driver = Driver(adapter)
    results = [
        compare(driver, case, options.pairs)
        for case in cases(options.case, options.streams, TextCodec(folder), options.output)
    ]
    found = {"model": options.model, "blas": blas.describe(), "results": results}
    print(json.dumps(found, indent=1))  # noqa: T201  # the result


if __name__ == "__main__":
    main()
