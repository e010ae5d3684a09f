"""The real engine with a leak, for proving that the leak criterion notices.

    python tests/engines/leaky.py --leak front_end --model tiny --flags all --port 0

Everything but `--leak` goes to `phase5 serve`. The part that leaks keeps what belongs to a
stream after the stream has ended: the front end its state and a buffer for its text, the
runtime the scores of its tokens, as a forgotten list of references would.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

#: Bytes that the front end keeps of each stream besides its state: a socket's send buffer.
BUFFER = 64 * 1024
#: One step in so many keeps its scores, 16 KiB a row on `tiny`: 64 KiB for 16 tokens.
STEPS = 4
KEPT: list[Any] = []


def leak_in_front_end() -> None:
    from engine.server.engine import Engine

    close = Engine.close

    def keeping(self: Any, stream: Any, *rest: Any, **named: Any) -> Any:
        # Written to, since untouched pages are nobody's memory.
        KEPT.append((stream, b"\1" * BUFFER))
        return close(self, stream, *rest, **named)

    Engine.close = keeping  # type: ignore[method-assign] # this is the leak


def leak_in_runtime() -> int:
    from engine.runtime.light import leave_out_transformers

    leave_out_transformers()
    import mlx.core as mx

    from engine.runtime import batch, worker

    stock, steps = batch.choose, 0

    def keeping(logits: Any, inputs: Any, rows: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps % STEPS == 0:
            KEPT.append(mx.array(logits))
            mx.eval(KEPT[-1])
        return stock(logits, inputs, rows)

    batch.choose = keeping
    return worker.main()


def start_this_as_runtime() -> None:
    from engine.runtime.child import Process

    start = Process.start
    worker = (sys.executable, "-P", str(Path(__file__).resolve()))

    async def starting(options: Any, environment: Any, on_frame: Any) -> Process:
        return await start(options, environment, on_frame, worker)

    Process.start = starting  # type: ignore[method-assign, assignment] # as above


def main() -> int:
    """Serve with a leak; the same file is the runtime's program when that is the one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--leak", choices=("front_end", "runtime"))
    options, arguments = parser.parse_known_args()
    if options.leak is None:  # started by the front end of the other process
        return leak_in_runtime()
    if options.leak == "front_end":
        leak_in_front_end()
    else:
        start_this_as_runtime()
    from pytest_phase5.cli import main as phase5

    sys.argv = ["phase5", "serve", *arguments]
    phase5()
    return 0


if __name__ == "__main__":
    sys.exit(main())
