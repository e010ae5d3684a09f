"""Whether the tests reach enough of the code: `./dev coverage` asks, with coverage's JSON report.

    python tests/floors.py coverage.json

Decisions are pure and cheap to test, so nearly every branch of `engine.core` is held to; of the
packages as a whole, lines. Shells around processes and sockets have branches for what a test can
hardly bring about.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PACKAGES = ("engine", "gates", "chaos", "pytest_phase5")
CORE = "engine/core/"
#: Per cent of the branches of `engine.core`, and of the lines of all packages.
BRANCHES, LINES = 95.0, 90.0
#: Files named where a floor is missed.
WORST = 15


def share(files: Iterable[Mapping[str, Any]], covered: str, all_of: str) -> float:
    """Per cent that is covered; everything where there is nothing to cover."""
    counts = [(each["summary"][covered], each["summary"][all_of]) for each in files]
    total = sum(count for _, count in counts)
    return 100.0 * sum(count for count, _ in counts) / total if total else 100.0


def findings(report: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """What is measured, what it is, and its floor."""
    files: Mapping[str, Any] = report["files"]
    core = [each for name, each in files.items() if name.startswith(CORE)]
    lines = [
        (f"lines of {package}", share(_of(files, f"{package}/"), "covered_lines", "num_statements"))
        for package in PACKAGES
    ]
    branches = share(core, "covered_branches", "num_branches")
    return [
        (f"branches of {CORE}", branches if core else 0.0, BRANCHES),
        *((name, value, 0.0) for name, value in lines),
        ("lines of all", share(files.values(), "covered_lines", "num_statements"), LINES),
    ]


def _of(files: Mapping[str, Any], prefix: str) -> list[Any]:
    return [each for name, each in files.items() if name.startswith(prefix)]


def main() -> int:
    """Print what is reached; 1 where that is not enough."""
    report = json.loads(Path(sys.argv[1]).read_text())
    missed = False
    for name, value, floor in findings(report):
        verdict = "" if value >= floor else f", below its floor of {floor:g} %"
        missed = missed or bool(verdict)
        print(f"{name}: {value:.1f} %{verdict}")  # noqa: T201 - the result
    if missed:
        files = report["files"].items()
        worst = sorted(files, key=lambda item: -len(item[1]["missing_lines"]))[:WORST]
        for name, each in worst:
            print(f"  {name}: {len(each['missing_lines'])} lines")  # noqa: T201 - the result
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
