"""The floors that `./dev coverage` holds the tests to."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FLOORS = Path(__file__).parents[1] / "floors.py"


def summary(lines: int, branches: int) -> dict[str, object]:
    """A file of a hundred lines and a hundred branches."""
    return {
        "summary": {
            "num_statements": 100,
            "covered_lines": lines,
            "num_branches": 100,
            "covered_branches": branches,
        },
        "missing_lines": list(range(100 - lines)),
    }


def judged(folder: Path, **files: dict[str, object]) -> subprocess.CompletedProcess[str]:
    report = folder / "coverage.json"
    named = {name.replace("__", "/") + ".py": each for name, each in files.items()}
    report.write_text(json.dumps({"files": named}))
    return subprocess.run(
        [sys.executable, str(FLOORS), str(report)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("core", "other", "code", "words"),
    [
        pytest.param((100, 95), (80, 0), 0, "branches of engine/core/: 95.0 %\n", id="on both"),
        pytest.param((100, 94), (100, 100), 1, "94.0 %, below its floor of 95 %", id="branches"),
        pytest.param((100, 100), (79, 100), 1, "lines of all: 89.5 %, below", id="lines"),
    ],
)
def test_branches_of_the_core_and_lines_of_all_have_floors(
    tmp_path: Path, core: tuple[int, int], other: tuple[int, int], code: int, words: str
) -> None:
    found = judged(tmp_path, engine__core__a=summary(*core), gates__b=summary(*other))
    assert found.returncode == code, found.stderr
    assert words in found.stdout
    assert ("  gates/b.py: 21 lines" in found.stdout) is (other[0] == 79)


def test_a_core_that_nothing_was_measured_of_is_not_covered(tmp_path: Path) -> None:
    assert judged(tmp_path, gates__b=summary(100, 100)).returncode == 1
