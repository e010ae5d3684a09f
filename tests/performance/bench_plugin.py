"""What the plugin costs who does not use it: its import, and a suite without our markers.

    ./dev run python tests/performance/bench_plugin.py [--rounds 8] [--tests 1000] [--json FILE]

The import is read from `-X importtime`, pytest itself being there already, in processes of their
own: the median counts. The suite runs with the plugin and without it in pairs whose
order is drawn; the ratio of a pair is one observation. No other plugin is loaded on either side:
some of those that are installed here take longer than a thousand tests. Ours is named by its
module: by its entry point pytest would look through everything that is installed, which it does
once in any environment, with our plugin or without.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from pytest_phase5.bench.document import versions
from pytest_phase5.bench.ratios import of_rounds
from pytest_phase5.recording import machine

#: The line of `-X importtime`: microseconds of a module with all that it imports.
PLUGIN = re.compile(r"\|\s*(\d+) \| pytest_phase5\.plugin$", re.MULTILINE)
IMPORTS = 15


def import_ms() -> float:
    """Milliseconds to import the plugin into a process that has pytest."""
    done = subprocess.run(
        [sys.executable, "-P", "-X", "importtime", "-c", "import pytest, pytest_phase5.plugin"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = PLUGIN.search(done.stderr)
    if found is None:
        sys.exit("the plugin was not imported")
    return int(found[1]) / 1e3


def suite_seconds(folder: Path, *options: str) -> float:
    """Seconds of a whole session."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - began


def suite_ratios(rounds: int, tests: int, random: Random) -> list[float]:
    """With the plugin over without it, pair by pair, after one that does not count."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.joinpath("pytest.ini").touch()
        body = "\n".join(f"def test_{number}(): pass" for number in range(tests))
        folder.joinpath("test_many.py").write_text(body + "\n")
        arms: dict[bool, tuple[str, ...]] = {True: ("-p", "pytest_phase5.plugin"), False: ()}
        found = []
        for number in range(rounds + 1):
            order = random.sample([True, False], 2)
            times = {arm: suite_seconds(folder, *arms[arm]) for arm in order}
            if number:
                found.append(times[True] / times[False])
        return found


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--tests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    import_ms()  # writes the byte code, if need be
    imports = [import_ms() for _ in range(IMPORTS)]
    ratios = suite_ratios(options.rounds, options.tests, Random(options.seed))  # noqa: S311 - an order
    facts = {
        "schema": "phase5.bench.plugin/1",
        "machine": machine(),
        "versions": versions(),
        "import_ms": {
            "median": round(statistics.median(imports), 2),
            "slowest": round(max(imports), 2),
            "n": len(imports),
        },
        "suite": {"tests": options.tests, "pairs": len(ratios), **of_rounds(ratios).rounded()},
    }
    text = json.dumps(facts, indent=1)
    if options.json:
        options.json.write_text(text + "\n")
    print(text)  # noqa: T201 - the result


if __name__ == "__main__":
    main()
