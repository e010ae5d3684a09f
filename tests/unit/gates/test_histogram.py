from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as Theirs

from engine.server.metrics import DURATION_BUCKETS, TTFT_BUCKETS
from gates.histogram import Histogram, beyond, interpolated, log_edges, nearest_edge
from gates.simulation.traffic import LATENCY_EDGES, TTFT_EDGES

times = st.lists(st.floats(0.001, 50), max_size=60)


def test_simulated_traffic_has_the_engines_buckets() -> None:
    assert (TTFT_EDGES, LATENCY_EDGES) == (TTFT_BUCKETS, DURATION_BUCKETS)


def test_limits_are_edges_and_the_rest_rises_in_equal_ratios() -> None:
    edges = log_edges(0.01, 10, limits=(0.55, 0.8))
    assert {0.55, 0.8} <= set(edges)
    others = [edge for edge in edges if edge not in (0.55, 0.8)]
    np.testing.assert_allclose(np.diff(np.log2(others)), 1 / 8)


@given(times, times)
def test_histograms_add_and_subtract_exactly(one: list[float], other: list[float]) -> None:
    a, b, both = (Histogram.of(np.array(v), TTFT_BUCKETS) for v in (one, other, one + other))
    assert a + b == both
    assert both - a == b


@given(times)
def test_a_share_over_an_edge_is_exact(values: list[float]) -> None:
    histogram = Histogram.of(np.array(values), TTFT_BUCKETS)
    late = sum(value > 0.55 for value in values)
    assert histogram.over(0.55) == (late, late)


@given(times, st.floats(0.001, 60))
def test_between_edges_both_neighbours_bound_it(values: list[float], limit: float) -> None:
    least, most = Histogram.of(np.array(values), TTFT_BUCKETS).over(limit)
    assert least <= sum(value > limit for value in values) <= most


@given(times)
def test_prometheus_counts_alike(values: list[float]) -> None:
    theirs = Theirs("x_seconds", "x", registry=CollectorRegistry(), buckets=TTFT_BUCKETS)
    for value in values:
        theirs.observe(value)
    buckets = [
        (float(sample.labels["le"]), sample.value)
        for family in theirs.collect()
        for sample in family.samples
        if sample.name.endswith("_bucket")
    ]
    assert Histogram.from_cumulative(buckets) == Histogram.of(np.array(values), TTFT_BUCKETS)


@given(st.lists(st.floats(0.001, 50), min_size=1, max_size=60), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_lies_between_its_edges(values: list[float], share: float) -> None:
    low, high = Histogram.of(np.array(values), TTFT_BUCKETS).quantile(share)
    exact = sorted(values)[max(1, int(np.ceil(share * len(values) - 1e-9))) - 1]
    assert low < exact <= high


def test_a_reset_counter_is_refused() -> None:
    with pytest.raises(ValueError, match="more was taken than was there"):
        Histogram((1.0,), (1, 0)) - Histogram((1.0,), (2, 0))


@pytest.mark.parametrize("bad", [np.array([np.nan]), np.array([0.1, np.nan])])
def test_what_is_no_number_is_refused(bad: np.ndarray) -> None:  # type: ignore[type-arg] # any shape
    with pytest.raises(ValueError, match="not numbers"):
        Histogram.of(bad, TTFT_BUCKETS)


def test_an_infinite_time_is_over_every_limit() -> None:
    assert Histogram.of(np.array([inf]), TTFT_BUCKETS).over(30.0) == (1, 1)


@given(st.floats(0.002, 60))
def test_an_interpolated_share_lies_between_the_bounds(limit: float) -> None:
    least, most = beyond(TTFT_BUCKETS, limit)
    share = interpolated(TTFT_BUCKETS, limit, beyond_last=0.5)
    assert ((least <= share) & (share <= most)).all()


def test_the_edge_nearest_to_a_quantile_and_none_without_data() -> None:
    # 1,000 values: 10 % over the first edge, 4 % over the second, 1 % over the third.
    over = np.array([[1000.0, 100.0, 40.0, 10.0], [0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(nearest_edge(over, 0.05), [1, -1])
