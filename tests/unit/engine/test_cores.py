"""A runtime process that computes with one thread keeps to a core of its own, if there is one."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.cores import candidates, keep_to_core

CORES = st.sets(st.integers(0, 127), min_size=1)
TURN = st.integers(0, 4_000_000)
#: Keeps to a core, says from a thread to which it keeps, and stays until its input ends. Its
#: claims have names that engines on this machine do not use.
PROGRAM = """
import os, sys
from threading import Thread
from engine.runtime import cores
cores._NAME = {name!r}
cores.keep_to_core({threads})
Thread(target=lambda: print(*os.sched_getaffinity(0), flush=True)).start()
sys.stdin.read()
"""

linux = pytest.mark.skipif(
    sys.platform != "linux", reason="no other kernel lets a process choose its cores"
)


@contextmanager
def process(threads: int) -> Iterator[set[int]]:
    """The cores of a process that lives as long as the block."""
    code = PROGRAM.format(name=f"test-{os.getpid()}", threads=threads)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        yield set(map(int, running.stdout.readline().split()))
        running.communicate()


@given(available=CORES, threads=st.integers(0, 8), turn=TURN)
def test_one_thread_may_keep_to_any_of_several_cores(
    available: set[int], threads: int, turn: int
) -> None:
    found = candidates(available, threads, turn)
    assert sorted(found) == (sorted(available) if threads == 1 and len(available) > 1 else [])


@given(available=st.sets(st.integers(0, 127), min_size=2), turn=TURN)
def test_each_core_is_the_first_choice_of_some_process(available: set[int], turn: int) -> None:
    firsts = {candidates(available, 1, turn + each)[0] for each in range(len(available))}
    assert firsts == available


@linux
def test_processes_keep_to_cores_of_their_own_and_one_too_many_to_none() -> None:
    every = os.sched_getaffinity(0)
    with ExitStack() as stack:
        kept = [stack.enter_context(process(1)) for _ in every]
        assert sorted(kept, key=min) == [{core} for core in sorted(every)]
        assert stack.enter_context(process(1)) == every


@linux
def test_a_core_is_free_again_when_its_process_has_ended() -> None:
    for _ in range(len(os.sched_getaffinity(0)) + 1):
        with process(1) as cores:
            assert len(cores) == 1


@linux
def test_more_threads_are_left_to_the_kernel() -> None:
    with process(2) as cores:
        assert cores == os.sched_getaffinity(0)


def test_elsewhere_nothing_is_asked_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "sched_setaffinity", lambda *given: asked.append(given), raising=False)
    keep_to_core(1)
    assert not asked
