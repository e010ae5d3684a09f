"""What `ttft_pipeline` does to the time to first token, through HTTP: JSON.

    ./dev run python tests/performance/bench_pipeline.py [--case shared unshared control]

- `shared`: conversations with a common system prompt of 200 tokens, flag on against off;
- `unshared`: prompts of the same length that have nothing in common, flag on against off;
- `control`: the control streams of an engine at 50 % against those of one at 0 %.

Each case is two engines that run the same closed loop in interleaved rounds (A B B A); the one
that is not asked sleeps. Two rounds next to each other give one ratio of P95s; the interval is
Student's on their logarithms. The machine's load stands beside the numbers.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from starting import started

from engine.runtime.models import resolve_model
from engine.server.text import TextCodec
from pytest_phase5.bench.ratios import estimate

#: The targets: ratio of P95 TTFT with the flag to that without.
TARGETS = {"shared": 0.69, "unshared": 1.05, "control": 1.05}
#: The percentage of the engine under test, and of the one that it is compared with.
SHARES = {"shared": (100, 0), "unshared": (100, 0), "control": (50, 0)}
SYSTEM_TOKENS, QUESTION_TOKENS = 200, 40
#: Closed loops begin together; what that does to the first prompts is no steady state.
PATIENCE = 600.0


@dataclass(frozen=True)
class Case:
    """How much is asked."""

    name: str
    model: str
    streams: int
    requests: int
    output: int


@contextmanager
def engine(case: Case, percentage: int) -> Iterator[str]:
    """An engine with so much of its traffic in the treatment; its address."""
    yaml = (
        "phase4_rollout:\n  ttft_pipeline:\n    enabled: true\n    holdback_percentage: 0\n"
        f"    rollout_percentage: {percentage}\n"
    )
    with started(yaml, model=case.model) as one:
        yield one.urls[0]


class Words:
    """Texts of about so many tokens, different each time."""

    def __init__(self, model: str) -> None:
        self._codec = TextCodec(resolve_model(model).path)
        self._source = random.Random(7)  # noqa: S311  # a reproducible choice, not a secret

    def text(self, tokens: int) -> str:
        """Letters in words, cut to a number of tokens."""
        long = "".join(self._source.choices("abcdefghijklmnopqrstuvwxyz   ", k=6 * tokens))
        return self._codec.decode(self._codec.encode(long)[:tokens])


def conversations(case: Case, words: Words, system: str) -> list[list[dict[str, str]]]:
    """The prompts of one round, the same for both arms."""
    return [
        [
            {"role": "system", "content": system or words.text(SYSTEM_TOKENS)},
            {"role": "user", "content": words.text(QUESTION_TOKENS)},
        ]
        for _ in range(case.streams * case.requests)
    ]


async def ask(client: httpx.AsyncClient, body: dict[str, Any], key: int) -> tuple[float, bool, int]:
    """TTFT in seconds, whether it was a control stream, and how many tokens were cached."""
    began, first, cached = time.perf_counter(), 0.0, 0
    headers = {"X-Phase5-Key": str(key)}
    async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        answer.raise_for_status()
        control = answer.headers["x-phase5-flags"] == "off"
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            if not first and any(one["delta"].get("content") for one in chunk["choices"]):
                first = time.perf_counter()
            if usage := chunk.get("usage"):
                cached = usage["prompt_tokens_details"]["cached_tokens"]
    return first - began, control, cached


async def play(
    url: str, case: Case, prompts: list[list[dict[str, str]]]
) -> list[tuple[float, bool, int]]:
    """One round: so many closed loops over the prompts."""
    waiting = list(enumerate(prompts))
    results: list[tuple[float, bool, int]] = []
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:

        async def loop() -> None:
            while waiting:
                key, messages = waiting.pop(0)
                body = {
                    "model": case.model,
                    "messages": messages,
                    "max_tokens": case.output,
                    "ignore_eos": True,
                    "stream": True,
                    "stream_options": {"include_usage": True},
                }
                results.append(await ask(client, body, key))

        await asyncio.gather(*(loop() for _ in range(case.streams)))
    return results


def p95(values: list[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def compare(case: Case, rounds: int) -> dict[str, Any]:
    """Interleaved rounds of two engines, after one of each that does not count."""
    words = Words(case.model)
    system = "" if case.name == "unshared" else words.text(SYSTEM_TOKENS)
    with engine(case, SHARES[case.name][0]) as on, engine(case, SHARES[case.name][1]) as off:

        def measure(url: str, prompts: list[list[dict[str, str]]]) -> dict[str, float]:
            got = asyncio.run(play(url, case, prompts))
            counted = [ttft for ttft, control, _ in got if control or case.name != "control"]
            return {
                "p95_s": round(p95(counted), 4),
                "p50_s": round(statistics.median(counted), 4),
                "n": len(counted),
                "cached_tokens": sum(cached for _, _, cached in got),
            }

        warm_up = conversations(case, words, system)[: case.streams]
        measure(on, warm_up), measure(off, warm_up)
        pairs = []
        for turn in range(rounds):
            prompts, load = conversations(case, words, system), os.getloadavg()[0]
            order = (on, off) if turn % 2 == 0 else (off, on)
            found = {url: measure(url, prompts) for url in order}
            pairs.append({"on": found[on], "off": found[off], "load": round(load, 2)})
            print(json.dumps(pairs[-1]), file=sys.stderr, flush=True)  # noqa: T201  # progress
    return {
        "case": case.name,
        "treatment_percent": SHARES[case.name],
        "target": TARGETS[case.name],
        **{
            name: estimate([p["on"][name] / p["off"][name] for p in pairs]).rounded()
            for name in WHAT
        },
        "rounds": pairs,
    }


WHAT = ("p95_s", "p50_s")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--requests", type=int, default=4, help="of each stream in a round")
    parser.add_argument("--rounds", type=int, default=6, help="pairs of rounds")
    parser.add_argument("--output", type=int, default=16, help="tokens")
    options = parser.parse_args()
    for name in options.case:
        case = Case(name, options.model, options.streams, options.requests, options.output)
        print(json.dumps(compare(case, options.rounds), indent=1))  # noqa: T201  # the result


if __name__ == "__main__":
    main()
