"""Requests done each second beside control, both kept busy, in short rounds in turn."""

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_phase5.fixtures import EnginePair
from pytest_phase5.load.driver import run_plan
from pytest_phase5.load.plan import TIMEOUT, lag_limit
from pytest_phase5.load.plans import interleaved
from pytest_phase5.load.workload import Workload
from pytest_phase5.recording import Evidence

#: An assistant: a few system prompts of a paragraph, questions and answers of a line.
ASSISTANT = Workload(
    name="assistant", words=(5, 15), tokens=(8, 8), shared_prompts=4, shared_words=(80, 120)
)
#: Busy, and far below where the governor turns requests away: then the arms would not do the
#: same work.
STREAMS = 8
#: Some more rounds than the twenty that the criterion asks for, each of five turns a stream.
ROUNDS = 22
A_ROUND = 5 * STREAMS


@pytest.mark.slo("throughput_vs_control")
@pytest.mark.flag_set("all", model="tiny")
def test_more_requests_are_done_each_second(
    engine_pair: EnginePair, evidence: Evidence, tmp_path: Path
) -> None:
    """The same requests to either arm, A B B A: what the machine does meanwhile hits both."""
    plan = interleaved(
        engine_pair.treatment.url,
        engine_pair.control.url,
        rounds=ROUNDS,
        per_block=A_ROUND,
        concurrency=STREAMS,
        seed=0,
        workload=replace(ASSISTANT, model=engine_pair.control.identity.model),
        lag_limit=lag_limit(TIMEOUT),  # no time of a request is judged
    )
    result = run_plan(plan, tmp_path)
    evidence.record(result, treatment=engine_pair.treatment, control=engine_pair.control)
