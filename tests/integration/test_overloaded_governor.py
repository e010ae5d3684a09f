"""Twice as much as the engine can do: with the governor, what it does is worth something.

The benchmark `tests/performance/bench_governor.py` has the real numbers.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from probe import Probe, full, probing

from pytest_phase5.load.driver import run_plan
from pytest_phase5.load.plans import CONTROL, TREATMENT, open_loop
from pytest_phase5.load.workload import Workload

pytestmark = pytest.mark.alone

LIMIT_SECONDS = 0.550
#: The runtime runs for a fifth of each period, so that it and not the load is what saturates on
#: any machine: the stops are far shorter than the limit.
PERIOD_SECONDS, SHARE = 0.05, 0.2
WORKLOAD = Workload(name="overload", words=(60, 60), tokens=(24, 24))
#: A queue that takes longer than the limit to work off, at any rate that this engine has.
YAML = "admission: {limit: 16, queue: 60}\ngovernor: {max_limit: 16}\n"
#: Requests a second: several times what a throttled engine of this kind can do.
RATE = 80
SECONDS, SETTLE = (10, 5) if full() else (2.5, 1.5)


@contextmanager
def throttled(pid: int) -> Iterator[None]:
    over = threading.Event()

    def cycle() -> None:
        while not over.wait(PERIOD_SECONDS * SHARE):
            os.kill(pid, signal.SIGSTOP)
            over.wait(PERIOD_SECONDS * (1 - SHARE))
            os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=cycle)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def in_time(probe: Probe, folder: Path, arm: str) -> tuple[int, int]:
    """How many answers had their first token in time, and how many were errors."""
    plan = open_loop(
        probe.url,
        rate=RATE,
        requests=round(RATE * SECONDS),
        warmup=round(RATE * SETTLE),
        seed=5,
        workload=WORKLOAD,
        arm=arm,
        timeout=2.0,  # nobody waits for what is late several times over
    )
    samples = run_plan(plan, folder).samples
    good = [one for one in samples if one.ttft is not None and one.ttft <= LIMIT_SECONDS]
    bad = [one for one in samples if one.status not in {200, 429, None}]
    return len(good), len(bad)


def test_under_overload_more_answers_are_in_time_with_the_governor(tmp_path: Path) -> None:
    found = {}
    for arm, flags in ((CONTROL, "off"), (TREATMENT, "adaptive_governor")):
        folder = tmp_path / arm
        folder.mkdir()
        with ExitStack() as stack:
            probe = stack.enter_context(probing(folder, YAML, flags))
            stack.enter_context(throttled(probe.runtime.pid))
            good, bad = in_time(probe, folder / "load", arm)
            assert bad == 0
            assert probe.metric("phase5_requests_total", outcome="failed") == 0
            assert probe.metric("phase5_requests_total", outcome="shed") > 0
            foreseen = probe.metric("phase5_streams_shed_total", cause="would_be_late")
            assert (foreseen > 0) is (arm == TREATMENT)
            assert probe.metric("phase5_cleanup_reclaimed_total") == 0
        found[arm] = good
    # A wide margin for a machine that is shared: where it is not, control has next to none.
    assert found[TREATMENT] >= 10
    assert found[TREATMENT] >= 1.3 * found[CONTROL]
