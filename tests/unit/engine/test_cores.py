"""A runtime process that computes with one thread keeps to one core, where there are more."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.cores import keep_to_core, kept

CORES = st.sets(st.integers(0, 127), min_size=1)
TURN = st.integers(0, 4_000_000)


@given(available=CORES, threads=st.integers(0, 8), turn=TURN)
def test_one_thread_keeps_to_one_of_several_cores(
    available: set[int], threads: int, turn: int
) -> None:
    core = kept(available, threads, turn)
    if threads == 1 and len(available) > 1:
        assert core in available
    else:
        assert core is None


@given(available=st.sets(st.integers(0, 127), min_size=2), turn=TURN)
def test_processes_in_turn_take_all_cores_in_turn(available: set[int], turn: int) -> None:
    assert {kept(available, 1, turn + each) for each in range(len(available))} == available


@pytest.mark.skipif(sys.platform != "linux", reason="no other kernel lets a process choose")
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_keep_to_the_cores_of_their_process(threads: int) -> None:
    code = (
        "import os; from threading import Thread; from engine.runtime.cores import keep_to_core;"
        f"keep_to_core({threads});"
        "Thread(target=lambda: print(len(os.sched_getaffinity(0)))).start()"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(1 if threads == 1 else len(os.sched_getaffinity(0)))


def test_elsewhere_nothing_is_asked_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "sched_setaffinity", lambda *given: asked.append(given), raising=False)
    keep_to_core(1)
    assert not asked
