"""Processes below a process are found, and told apart from later ones with the same id."""

import os
import subprocess
import sys
from dataclasses import replace

from pytest_phase5.processes import descendants, still_alive

#: Says its child's id, then waits for its input to close.
PARENT = (
    "import subprocess, sys\n"
    "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
    "print(child.pid, flush=True)\n"
    "sys.stdin.read()\n"
    "child.communicate(b'\\n')\n"
)


def test_children_of_children_are_found_and_gone_afterwards() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        family = descendants(os.getpid())
        assert {parent.pid, child} <= {process.pid for process in family}
        below = descendants(parent.pid)
        assert {process.pid for process in below} == {child}
        assert set(still_alive(below)) == below
        parent.communicate("")
    assert still_alive(below) == ()


def test_another_process_with_the_same_id_is_not_the_one_that_was_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        seen = next(p for p in descendants(os.getpid()) if p.pid == child.pid)
        assert still_alive([seen]) == (seen,)
        assert still_alive([replace(seen, started="earlier")]) == ()
        child.communicate(b"\n")
