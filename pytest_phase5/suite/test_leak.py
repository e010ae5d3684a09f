"""What was served leaves no memory behind, with every feature on."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from gates.samples import Outcome
from pytest_phase5.engines import Engine
from pytest_phase5.load.building import measured
from pytest_phase5.recording import Evidence

if TYPE_CHECKING:
    from pytest_phase5.load.running import ProfileResult


@pytest.mark.slo("no_leak")
@pytest.mark.slo("streams_75")
@pytest.mark.load("leak")
@pytest.mark.flag_set("all", model="tiny")
def test_thousands_of_requests_leave_no_memory_behind(
    mlx_engine: Engine, evidence: Evidence, load: "Callable[[], ProfileResult]"
) -> None:
    """75 streams ask a few prompts over and over; a restart would hide what was left behind."""
    result = load()
    for part in result.parts:
        replicas = {reading.processes for reading in part.usage if reading.part == "runtime"}
        restarts = part.counted.restarts if part.counted else None
        evidence.check("no restart", restarts == 0, f"{restarts} restarts")
        evidence.check("as many processes all the time", len(replicas) == 1, f"{replicas}")
        wrong = [s.error for s in measured(part.samples) if s.outcome is not Outcome.OK]
        evidence.check("every request was answered", not wrong, f"{len(wrong)}: {wrong[:1]}")
    assert mlx_engine.status()["ready"]
    assert all(check.ok for check in evidence.checks), evidence.checks
