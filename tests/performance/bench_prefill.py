"""What a model computes in one call or in several: the price of reading prompts in small chunks.

    ./dev run python tests/performance/bench_prefill.py [--model smollm2-135m] [--json FILE]

Milliseconds of a forward pass of mlx-lm's model, without server or scheduler, in a process with
the BLAS of a runtime process: so many rows of so many new tokens, each behind a prefix that is
known. The median of the repetitions.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from engine.runtime.child import worker_environment
from engine.runtime.models import resolve_model
from pytest_phase5.bench.document import versions
from pytest_phase5.recording import machine

#: Tokens that are known, new tokens of each prompt, and rows that are read together.
KNOWN, NEW, ROWS = 200, 50, (1, 2, 4, 8)


def measure(folder: str, repetitions: int) -> dict[str, dict[str, float]]:
    """Milliseconds by the number of rows: to read new tokens, and of a decoding step."""
    import mlx.core as mx
    from mlx_lm import load
    from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache

    model: Any = load(folder)[0]

    def took(cache: Any, rows: int, tokens: int) -> float:
        began = time.perf_counter()
        mx.eval(model(mx.full((rows, tokens), 7), cache=cache)[:, -1])
        return 1e3 * (time.perf_counter() - began)

    def one(rows: int) -> dict[str, float]:
        cache = make_prompt_cache(model)
        took(cache, rows, KNOWN)
        reads, steps = [], []
        for _ in range(repetitions + 1):
            reads.append(took(cache, rows, NEW))
            steps.append(took(cache, rows, 1))
            trim_prompt_cache(cache, NEW + 1)
        return {
            "read_ms": round(statistics.median(reads[1:]), 1),
            "step_ms": round(statistics.median(steps[1:]), 1),
        }

    return {str(rows): one(rows) for rows in ROWS}


def main() -> None:
    """Measure in a child, print, and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", help="for the child")
    options = parser.parse_args()
    if options.folder:
        print(json.dumps(measure(options.folder, options.repetitions)))  # noqa: T201 - the result
        return
    model = resolve_model(options.model)
    command = [sys.executable, __file__, "--folder", str(model.path)]
    child = subprocess.run(
        [*command, "--repetitions", str(options.repetitions)],
        env=worker_environment(model),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    where = {"machine": machine(), "versions": versions(), "model": model.name}
    facts = {"schema": "phase5.bench.prefill/1", **where, "known": KNOWN, "new": NEW}
    text = json.dumps({**facts, "rows": json.loads(child.stdout)}, indent=1)
    if options.json:
        options.json.write_text(text + "\n")
    print(text)  # noqa: T201 - the result


if __name__ == "__main__":
    main()
