"""Under load no request fails and no stream is lost, with every feature on."""

from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pytest_phase5.engines import Engine
from pytest_phase5.fixtures import EnginePair
from pytest_phase5.load.driver import run_plan
from pytest_phase5.load.plan import TIMEOUT, lag_limit
from pytest_phase5.load.plans import CONTROL, TREATMENT, open_loop
from pytest_phase5.load.workload import Workload
from pytest_phase5.recording import Evidence

#: Half of what `tiny` serves on two cores: this is about errors, not about overload.
RATE = 100.0
#: 2,995 requests without an error show 0.1 % at 95 %; some more, so that a few that do not
#: count (shed, say) leave enough.
REQUESTS = 3_200
#: Enough for Fisher's test to tell 2 % of errors from none.
CONTROL_REQUESTS = 1_000
#: Few words in and out: what is exercised is the life of a stream.
SHORT_STREAMS = Workload(name="short-streams", words=(3, 10), tokens=(4, 12))


@pytest.mark.slo("error_rate")
@pytest.mark.slo("no_lost_stream")
@pytest.mark.flag_set("all", model="tiny")
def test_no_request_fails_and_no_stream_is_lost(
    engine_pair: EnginePair, evidence: Evidence, tmp_path: Path
) -> None:
    """Open-loop load on each arm; the engine's own counts must agree with the client's."""
    treatment, control = engine_pair
    for arm, engine, count in (
        (CONTROL, control, CONTROL_REQUESTS),
        (TREATMENT, treatment, REQUESTS),
    ):
        workload = replace(SHORT_STREAMS, model=engine.identity.model)
        plan = open_loop(
            engine.url,
            rate=RATE,
            requests=count,
            seed=count,
            workload=workload,
            arm=arm,
            lag_limit=lag_limit(TIMEOUT),  # no time is judged here but the timeout
        )
        before, restarts = served(engine), restarted(engine)
        result = run_plan(plan, tmp_path / arm)
        evidence.record(result, treatment=treatment, control=control)
        sent = sum(len(block.requests) for block in plan.blocks)
        counted = served(engine) - before
        detail = f"engine {counted}, client {sent}"
        evidence.check(f"{arm}: engine and client count alike", counted == sent, detail)
        evidence.check(f"{arm}: no stream left", in_flight(engine) == 0)
        again = restarted(engine) - restarts
        # Replay hides a crash from the clients; it must not hide it from the gate.
        evidence.check(f"{arm}: no restart", again == 0, f"{again} restarts")
    assert all(check.ok for check in evidence.checks), evidence.checks


def served(engine: Engine) -> int:
    """Requests that the engine says it has ended, however they ended."""
    return int(total(engine, "phase5_requests_total"))


def restarted(engine: Engine) -> int:
    """Restarts of its runtime that the engine says nobody asked for."""
    return int(total(engine, "phase5_runtime_restarts_total"))


def in_flight(engine: Engine) -> int:
    """Streams that the engine says are live."""
    return int(total(engine, "phase5_streams_in_flight"))


def total(engine: Engine, name: str) -> float:
    """The sum of a metric over its labels.

    Raises:
        LookupError: the engine has no such metric, so nothing is known.
    """
    values = [
        sample.value
        for family in text_string_to_metric_families(engine.metrics())
        for sample in family.samples
        if sample.name == name
    ]
    if not values:
        raise LookupError(f"{engine.url}/metrics has no {name}")
    return sum(values)
