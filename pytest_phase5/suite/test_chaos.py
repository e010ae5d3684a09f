"""What breaks is survived, with every feature on: the fault is proven, and nothing is lost."""

import pytest

from gates.evidence import ChaosVerdict
from pytest_phase5.breaking.fixture import Faults
from pytest_phase5.engines import Engine


@pytest.mark.slo("chaos_recovery")
@pytest.mark.chaos("runtime-kill")
@pytest.mark.flag_set("all", model="tiny")
def test_a_killed_runtime_costs_no_stream(mlx_engine: Engine, faults: Faults) -> None:
    """Fifty streams in the middle."""
    assert mlx_engine.status()["ready"]
    survived(faults)


@pytest.mark.slo("chaos_recovery")
@pytest.mark.chaos("network-latency")
@pytest.mark.flag_set("all", model="tiny")
def test_a_slow_network_costs_time_and_nothing_else(mlx_engine: Engine, faults: Faults) -> None:
    """On HTTP/1.1 and HTTP/2."""
    assert mlx_engine.status()["ready"]
    survived(faults)


@pytest.mark.slo("chaos_resilience")
@pytest.mark.flag_set("all", model="tiny")
@pytest.mark.parametrize(
    "experiment",
    [
        pytest.param(name, marks=pytest.mark.chaos(name))
        for name in (
            *("memory-pressure", "remediation-storm", "runtime-stall", "reset-peer"),
            *("slow-client", "bandwidth", "partition", "disk-full"),
            *("guard-loses-prometheus", "guard-goes-blind"),
            *("descriptor-exhaustion", "clock-jump", "rollback-during-chaos"),
        )
    ],
)
def test_everything_else_that_can_break_is_survived(experiment: str, faults: Faults) -> None:
    """Each on an engine of its own."""
    survived(faults, experiment)


def survived(faults: Faults, experiment: str | None = None) -> None:
    """Carry out an experiment; its journal is the evidence, whatever is asserted here."""
    account = faults.run(experiment)
    assert account.verdict is ChaosVerdict.PASS, account.judgement.reasons
