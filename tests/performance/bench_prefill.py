"""What a model computes in one call, in several, and in two processes beside each other.

    ./dev run python tests/performance/bench_prefill.py [--model smollm2-135m] [--json FILE]

Milliseconds of a forward pass of mlx-lm's model, without server or scheduler, in processes with
the BLAS of a runtime process: so many rows of so many new tokens, each behind a prefix that is
known. The median of the repetitions. `split`: the rows shared out to two processes at once, with
a BLAS thread each; `operations`: where the time of one layer goes.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from engine.runtime.child import worker_environment
from engine.runtime.models import ModelFiles, resolve_model
from pytest_phase5.bench.document import versions
from pytest_phase5.recording import machine

#: Tokens that are known, new tokens of each prompt, and rows that are read together.
KNOWN, NEW, ROWS = 200, 50, (1, 2, 4, 8)
#: Decoding steps behind each reading.
STEPS = 8
#: Processes that share the most rows.
SPLIT = 2

Took = dict[str, float]


def measure(folder: str, rows: int, repetitions: int) -> Took:
    """Milliseconds to read new tokens of so many rows, and of a decoding step; a child's work."""
    import mlx.core as mx
    from mlx_lm import load
    from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache

    model: Any = load(folder)[0]
    cache: Any = make_prompt_cache(model)

    def took(tokens: int) -> float:
        began = time.perf_counter()
        mx.eval(model(mx.full((rows, tokens), 7), cache=cache)[:, -1])
        return 1e3 * (time.perf_counter() - began)

    took(KNOWN)
    print("up", flush=True)  # noqa: T201 - to the parent
    sys.stdin.readline()
    reads, steps = [], []
    for _ in range(repetitions + 1):
        reads.append(took(NEW))
        steps.extend(took(1) for _ in range(STEPS))
        trim_prompt_cache(cache, NEW + STEPS)
    return {
        "read_ms": round(statistics.median(reads[1:]), 1),
        "step_ms": round(statistics.median(steps[STEPS:]), 1),
    }


def operations(folder: str, rows: int) -> Took:
    """Milliseconds of the parts of one layer, for the same rows; a child's work."""
    import mlx.core as mx
    from mlx import nn

    config = json.loads(Path(folder, "config.json").read_text())
    width, inner, heads, known = (
        config[name]
        for name in (
            "hidden_size",
            "intermediate_size",
            "num_attention_heads",
            "num_key_value_heads",
        )
    )
    size, total = width // heads, KNOWN + NEW
    normal = mx.random.normal
    x, h = normal((rows, NEW, width)), normal((rows, NEW, inner))
    wide, narrow = normal((inner, width)), normal((width, inner))
    square, short = normal((width, width)), normal((known * size, width))
    query, keys = normal((rows, heads, NEW, size)), normal((rows, known, total, size))
    scores = normal((rows, heads, NEW, total))
    attend = mx.fast.scaled_dot_product_attention
    parts: dict[str, Any] = {
        "matrix products": lambda: [
            *(x @ wide.T, x @ wide.T, h @ narrow.T),
            *(x @ square.T, x @ square.T, x @ short.T, x @ short.T),
        ],
        "activation": lambda: nn.silu(h) * h,
        "attention": lambda: attend(query, keys, keys, scale=size**-0.5, mask="causal"),
        "its softmax": lambda: mx.softmax(scores, axis=-1),
    }
    mx.eval(x, h, wide, narrow, square, short, query, keys, scores)
    found = {}
    for name, part in parts.items():
        times = []
        for _ in range(12):
            began = time.perf_counter()
            mx.eval(part())
            times.append(1e3 * (time.perf_counter() - began))
        found[name] = round(statistics.median(times), 2)
    return found


def together(model: ModelFiles, processes: int, rows: int, repetitions: int) -> Took:
    """So many processes at once with so many rows each; the slowest counts."""
    arguments = ("--folder", str(model.path), "--rows", str(rows))
    command = [sys.executable, __file__, *arguments, "--repetitions", str(repetitions)]
    environment = worker_environment(model, processes)
    with ExitStack() as stack:
        children = [
            stack.enter_context(
                subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(processes)
        ]
        for child in children:
            if line(child) != "up\n":
                sys.exit("a child did not start")
        answers = [json.loads(child.communicate()[0]) for child in begun(children)]
    return {name: max(answer[name] for answer in answers) for name in answers[0]}


def begun(children: "list[subprocess.Popen[str]]") -> "list[subprocess.Popen[str]]":
    """All of them, told to begin."""
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    return children


def line(child: "subprocess.Popen[str]") -> str:
    """The next line of a child."""
    assert child.stdout is not None
    return child.stdout.readline()


def parts_of(model: ModelFiles) -> Took:
    """`operations`, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--folder", str(model.path), "--parts"],
        env=worker_environment(model),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def main() -> None:
    """Measure in children, print, and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", help="for a child")
    parser.add_argument("--rows", type=int, help="for a child")
    parser.add_argument("--parts", action="store_true", help="for a child")
    options = parser.parse_args()
    if options.folder:
        found = (
            operations(options.folder, ROWS[-1])
            if options.parts
            else measure(options.folder, options.rows, options.repetitions)
        )
        print(json.dumps(found))  # noqa: T201 - to the parent
        return
    model = resolve_model(options.model)
    most, repetitions = ROWS[-1], options.repetitions
    facts = {
        "schema": "phase5.bench.prefill/2",
        "machine": machine(),
        "versions": versions(),
        "model": model.name,
        "known": KNOWN,
        "new": NEW,
        "rows": {str(rows): together(model, 1, rows, repetitions) for rows in ROWS},
        "split": {"processes": SPLIT, **together(model, SPLIT, most // SPLIT, repetitions)},
        "operations": parts_of(model),
    }
    text = json.dumps(facts, indent=1)
    if options.json:
        options.json.write_text(text + "\n")
    print(text)  # noqa: T201 - the result


if __name__ == "__main__":
    main()
