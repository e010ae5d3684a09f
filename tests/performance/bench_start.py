"""How long an engine takes to be ready and to stop, for each flag set: a table of seconds.

    ./dev run python tests/performance/bench_start.py [--model tiny] [--rounds 3] [--flags off]

Whole processes, one after the other, on whatever else this machine does: the median counts.
With `--json FILE` the numbers are written there, too.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from engine.core.flags import every_flag_set, flag_set_name
from pytest_phase5.bench.document import versions
from pytest_phase5.recording import machine


def start_and_stop(model: str, flags: str) -> tuple[float, float]:
    """Seconds to the ready line, and from SIGTERM to the end."""
    command = ["-P", "-m", "pytest_phase5.cli", "serve", "--port", "0"]
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *command, "--model", model, "--flags", flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as engine:
        assert engine.stdout is not None
        line = engine.stdout.readline()
        ready = time.perf_counter()
        engine.terminate()
        status = engine.wait()
        ended = time.perf_counter()
    if not line.startswith("ready ") or status != 0:
        sys.exit(f"flags {flags}: said {line!r}, exit status {status}")
    return ready - began, ended - ready


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--flags", nargs="+", default=[*map(flag_set_name, every_flag_set())])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    table = Table("flags", "ready (median)", "ready (slowest)", "stopped (median)")
    found = {}
    for flags in options.flags:
        times = [start_and_stop(options.model, flags) for _ in range(options.rounds)]
        ready, stopped = ([pair[side] for pair in times] for side in (0, 1))
        row = (statistics.median(ready), max(ready), statistics.median(stopped))
        table.add_row(flags, *(f"{seconds:.2f} s" for seconds in row))
        names = ("ready_median", "ready_slowest", "stopped_median")
        found[flags] = {n: round(value, 2) for n, value in zip(names, row, strict=True)}
    if options.json:
        where = {"machine": machine(), "versions": versions(), "model": options.model}
        facts = {"schema": "phase5.bench.start/1", **where, "rounds": options.rounds}
        options.json.write_text(json.dumps({**facts, "seconds": found}, indent=1) + "\n")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
