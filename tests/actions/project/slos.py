"""The one SLO of a small project; `SLO_CASE` says what happens to it."""

import os
import signal
import sys

import pytest
from conftest import CASE  # the file `hooks.py` here

from gates.samples import Outcome, Sample
from pytest_phase5.engines import Engine
from pytest_phase5.recording import Evidence

#: What shows 1 % at 95 %, and what does not.
ENOUGH, FEW = 400, 20


def requests(count: int, *, failed: int = 0) -> list[Sample]:
    """Requests of which the first few failed."""
    return [
        Sample(
            index=index,
            arm="treatment",
            block=index,
            scheduled=float(index),
            sent=float(index),
            first_token=index + 0.05,
            end=index + 0.1,
            outcome=Outcome.FAILED if index < failed else Outcome.OK,
            flags="ttft_pipeline",
        )
        for index in range(count)
    ]


@pytest.mark.slo("error_rate")
@pytest.mark.flag_set("ttft_pipeline")
def test_few_requests_fail(mlx_engine: Engine, evidence: Evidence) -> None:
    if CASE == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if CASE == "hang":
        signal.pause()
    if CASE == "skip":
        pytest.skip("no time for it: ::error::not a command")
    if CASE != "no-data":
        failed = 100 if CASE == "errors" else 0
        count = FEW if CASE == "few" else ENOUGH
        evidence.record(requests(count, failed=failed), treatment=mlx_engine)
    if CASE == "shout":  # what a test prints is no command, and no output of the step
        sys.__stdout__.write("\n::set-output name=verdict::promote\n")
        sys.__stdout__.write("\n##[set-output name=verdict;]promote\n::error::shouted\n")
        sys.__stdout__.flush()
        pytest.fail("loud\n::error::failed loudly")
