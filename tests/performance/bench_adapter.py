"""Tokens per second of the adapter alone, in process, on pre-tokenised input: JSON.

    ./dev run python tests/performance/bench_adapter.py [--model tiny] [--rounds 3]

The median of the rounds counts: each is a whole process on whatever else this machine does.
"""

import argparse
import json
import statistics

from in_process import OUTPUT_TOKENS, PROMPT_TOKENS, measure

from engine.runtime import blas


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--streams", type=int, nargs="+", default=[32, 100])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds = [
        measure(options.model, options.streams, options.seconds) for _ in range(options.rounds)
    ]
    result = {
        "model": options.model,
        "blas": blas.describe(),
        "prompt_tokens": PROMPT_TOKENS,
        "output_tokens": OUTPUT_TOKENS,
        "rates": [
            {
                "streams": same[0].streams,
                "tokens_per_second": statistics.median(rate.tokens_per_second for rate in same),
                "requests_per_second": statistics.median(rate.requests_per_second for rate in same),
                "every_tokens_per_second": [round(rate.tokens_per_second) for rate in same],
            }
            for same in zip(*rounds, strict=True)
        ],
    }
    print(json.dumps(result, indent=1))  # noqa: T201  # the result


if __name__ == "__main__":
    main()
