"""D10: what was done about a TTFT violation was the opposite of what the governor does."""

from typing import get_args

import pytest

from engine.core.measures import METRICS
from engine.core.qos import Slo
from engine.core.remedies import (
    ACTUATORS,
    DIRECTIONS,
    LOWERING,
    RAISING,
    Action,
    Policy,
    PolicyStore,
    Remedy,
    suitable,
)
from engine.qos_config import RemedyConfig


def test_d10_no_remedy_lets_more_streams_run_than_the_governor_does() -> None:
    on_limit = [action for action, actuator in ACTUATORS.items() if actuator == "limit"]
    assert [DIRECTIONS[action] for action in on_limit] == [-1]


def test_every_metric_has_a_row_in_both_tables_and_every_action_a_place() -> None:
    assert set(LOWERING) == set(RAISING) == set(METRICS)
    actions = {*get_args(Action)} - {"none"}
    assert set(ACTUATORS) == set(DIRECTIONS) == actions
    assert RemedyConfig.model_fields["action"].annotation == Action


def test_no_action_both_lowers_and_raises_a_metric() -> None:
    for metric in METRICS:
        assert not set(LOWERING[metric]) & set(RAISING[metric])


@pytest.mark.parametrize(
    ("metric", "ceiling", "action", "fits"),
    [
        ("ttft_p95_ms", True, "throttle", True),
        ("ttft_p95_ms", True, "scale_up", True),
        ("ttft_p95_ms", True, "scale_down", False),
        ("throughput_tps", False, "throttle", False),
        ("throughput_tps", False, "scale_up", True),
        ("error_rate", True, "scale_down", False),
        ("latency_p99_ms", False, "scale_down", True),
        ("error_rate", False, "alert", True),
        ("error_rate", False, "none", True),
    ],
)
def test_an_action_suits_a_violation_or_makes_it_worse(
    metric: str, ceiling: bool, action: Action, fits: bool
) -> None:
    assert (action in suitable(metric, ceiling=ceiling)) is fits


def test_a_store_refuses_a_remedy_that_makes_its_violation_worse() -> None:
    slow = Policy(Slo(name="slow", metric="ttft_p95_ms", max=1), Remedy("scale_down"))
    with pytest.raises(ValueError, match=r"policy 'slow': action 'scale_down' does not act"):
        PolicyStore([slow])


def test_a_store_has_critical_policies_first_and_every_name_once() -> None:
    one = Policy(Slo(name="one", metric="error_rate", max=1), Remedy())
    two = Policy(Slo(name="two", metric="error_rate", max=1, severity="critical"), Remedy())
    assert [slo.name for slo in PolicyStore([one, two]).slos] == ["two", "one"]
    with pytest.raises(ValueError, match="names must differ"):
        PolicyStore([one, one])
