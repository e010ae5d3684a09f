"""What dashboards ask for is what engine and guard tell, under the same names."""

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gates.guarding.metrics import GuardMetrics
from gates.monitoring.recordings import REQUIRED
from pytest_phase5.dashboards.files import FOLDER
from pytest_phase5.dashboards.reading import asked, families, filled, metrics

FILES = sorted((Path(__file__).resolve().parents[4] / FOLDER).glob("*.json"))

#: Told, and on no page.
NOT_SHOWN = {
    # The names of the requirements: recorded, they are a fleet's; the panels have the same of any
    # engine and over any span of time.
    *REQUIRED,
    "phase5_bad_squares_total",  # of use to the judge alone
    "phase5_connection_requests",  # told when a connection ends, which may take days
    "phase5_governor_enough_slots",  # shown after minutes of overload
    *("phase5_slot_hold_seconds", "phase5_tenants"),  # the governor's own working
    *("phase5_listener_errors_total", "phase5_stream_listeners"),  # for who writes listeners
    *("phase5_recent_ttft_seconds", "phase5_recent_duration_seconds"),  # quantiles do not add up
    "phase5_recent_tokens_per_second",  # the same from a counter is shown
    "phase5_reload_swap_seconds",  # once in a while; its own test holds the limit
    *("phase5_cleanup_lag_seconds", "phase5_cleanup_suspects"),  # what was reclaimed is shown
    "phase5_runtime_read_ahead_tokens_total",  # prompt tokens are shown by source
    "phase5_start_time_seconds",  # in use to tell one life of an engine from the next
    *("process_virtual_memory_bytes", "process_start_time_seconds"),
    *("process_open_fds", "process_max_fds"),
}


def told(registry: CollectorRegistry) -> set[str]:
    """The names as they are selected; of a histogram, the one of the family."""
    names = set()
    for family in registry.collect():
        suffix = "_total" if family.type == "counter" else ""
        names.add(f"{family.name}{suffix}")
    return names


def shown() -> set[str]:
    values = {"instance": ".*", "__rate_interval": "1m"}
    return {
        name
        for path in FILES
        for query in asked(path.read_text(encoding="utf-8"))
        for name in metrics(filled(query.expr, values))
    }


@pytest.fixture
def every(make_bench: Callable[..., object]) -> set[str]:
    bench = make_bench()
    return told(bench.engine.metrics.registry) | told(GuardMetrics().registry)  # type: ignore[attr-defined] # of the folder's conftest


def test_every_metric_of_a_panel_is_told(every: set[str]) -> None:
    assert len(FILES) == 7
    assert sorted(families(shown()) - every) == []


def test_a_metric_that_is_renamed_is_missed(every: set[str]) -> None:
    renamed = every - {"phase5_requests_total"} | {"phase5_answers_total"}
    assert families(shown()) - renamed == {"phase5_requests_total"}


def test_every_metric_that_is_told_is_shown_or_listed(every: set[str]) -> None:
    assert sorted(every - families(shown()) - NOT_SHOWN) == []
    assert sorted(NOT_SHOWN & families(shown())) == []
    assert sorted(NOT_SHOWN - every) == []
