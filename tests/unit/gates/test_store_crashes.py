import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FULL = "PHASE5_FULL" in os.environ
SCRIPT = Path(__file__).with_name("store_crashes.py")


def crash(what: str, folder: Path, count: int = 0) -> Any:
    """Run the script; its assertions are ours. The seed is in the command, should one fail."""
    command = [sys.executable, SCRIPT, what, folder, str(count), str(secrets.randbits(32))]
    done = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return json.loads(done.stdout)


def test_a_writer_that_is_killed_at_random_leaves_the_state_before_or_after(tmp_path: Path) -> None:
    assert crash("random", tmp_path, 200 if FULL else 20) > 0


def test_a_writer_to_git_that_is_killed_at_random_leaves_the_state_before_or_after(
    tmp_path: Path,
) -> None:
    assert crash("git-random", tmp_path, 40 if FULL else 5) > 0


def test_a_writer_that_is_killed_before_any_call_of_the_system_leaves_before_or_after(
    tmp_path: Path,
) -> None:
    """Lock, record, temporary file, its sync, its new name, the folder's sync: each one."""
    places, effective = crash("calls", tmp_path)
    assert places >= 15
    assert 0 < effective < places


def test_a_writer_that_is_killed_in_the_middle_of_a_write_has_changed_nothing(
    tmp_path: Path,
) -> None:
    places, effective = crash("halves", tmp_path)
    assert (places, effective) == (2, 0)  # the record, and the new file before it takes its name


@pytest.mark.parametrize(("what", "rounds"), [("race", 10), ("git-race", 20 if FULL else 3)])
def test_of_two_processes_that_write_at_once_exactly_one_wins(
    tmp_path: Path, what: str, rounds: int
) -> None:
    for generation, fates in enumerate(crash(what, tmp_path, rounds)):
        won, lost = sorted(fates, reverse=True)
        assert won == f"won {generation + 1}"
        expected = rf"ConflictError: .*decided on generation {generation}, found generation "
        assert re.fullmatch(expected + f"{generation + 1}", lost)
