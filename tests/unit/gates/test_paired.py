"""The paired interval of a ratio of quantiles."""

from math import inf, isclose, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gates.paired import ratio_of_quantiles

P95, CONFIDENCE = 0.95, 0.95

times = st.floats(min_value=1e-3, max_value=10, allow_nan=False)
pairs = st.lists(st.tuples(times, times), min_size=5, max_size=30)


def noisy_pairs(seed: int, count: int, ratio: float) -> tuple[list[float], list[float]]:
    """Pairs on a machine whose speed drifts and now and then halves, for both arms alike."""
    rng = np.random.default_rng(seed)
    drift = np.exp(0.1 * rng.standard_normal(count)) * np.where(rng.random(count) < 0.1, 2.0, 1.0)
    arms = drift[:, None] * np.exp(0.1 * rng.standard_normal((count, 2)))
    return list(arms[:, 0] * ratio), list(arms[:, 1])


def test_each_bound_misses_the_true_ratio_in_about_one_of_twenty_runs() -> None:
    runs = [ratio_of_quantiles(*noisy_pairs(seed, 60, 1.0), P95, CONFIDENCE) for seed in range(60)]
    # 9 of 60 or more would happen to an exact 5 % bound once in 300 such tests.
    assert sum(run.high < 1 for run in runs) < 9
    assert sum(run.low > 1 for run in runs) < 9


@pytest.mark.parametrize("seed", range(4))
def test_a_healthy_arm_is_told_from_one_that_is_twice_as_slow(seed: int) -> None:
    healthy = ratio_of_quantiles(*noisy_pairs(seed, 150, 1.0), P95, CONFIDENCE)
    doubled = ratio_of_quantiles(*noisy_pairs(seed, 150, 2.0), P95, CONFIDENCE)
    assert healthy.high < 1.25 < doubled.low


@settings(deadline=None, max_examples=20)
@given(pairs, st.floats(min_value=0.2, max_value=5))
def test_slowing_the_treatment_scales_the_whole_estimate(
    measured: list[tuple[float, float]], factor: float
) -> None:
    treatment, control = [t for t, _ in measured], [c for _, c in measured]
    before = ratio_of_quantiles(treatment, control, P95, CONFIDENCE)
    after = ratio_of_quantiles([t * factor for t in treatment], control, P95, CONFIDENCE)
    assert isclose(after.estimate, before.estimate * factor, rel_tol=1e-9)
    assert after.low <= after.estimate <= after.high


@settings(deadline=None, max_examples=20)
@given(pairs)
def test_the_same_pairs_give_the_same_numbers(measured: list[tuple[float, float]]) -> None:
    treatment, control = [t for t, _ in measured], [c for _, c in measured]
    first = ratio_of_quantiles(treatment, control, P95, CONFIDENCE)
    assert ratio_of_quantiles(treatment, control, P95, CONFIDENCE) == first


def test_too_few_pairs_leave_the_interval_open() -> None:
    estimate = ratio_of_quantiles([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], P95, CONFIDENCE)
    assert (estimate.low, estimate.high) == (0.0, inf)


@pytest.mark.parametrize(
    ("treatment", "control", "message"),
    [
        ([], [], "no pairs"),
        ([1.0], [1.0, 2.0], "1 treatment times but 2 control times"),
        ([nan], [1.0], "positive and finite, given nan"),
        ([1.0], [inf], "positive and finite, given inf"),
        ([0.0], [1.0], "positive and finite, given 0.0"),
    ],
)
def test_what_is_not_a_pair_of_times_is_refused(
    treatment: list[float], control: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ratio_of_quantiles(treatment, control, P95, CONFIDENCE)
