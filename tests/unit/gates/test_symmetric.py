from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from gates.mixture import CLIP
from gates.symmetric import RestartedPairs, Sums, log_evidence_above, log_evidence_of_ratio

observations = st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=40)


def sums_of(values: list[float]) -> Sums:
    sums = Sums()
    for value in values:
        sums = sums.plus(value)
    return sums


def test_the_closed_form_is_the_integral_over_half_a_normal_density() -> None:
    values = [0.1, 0.02, -0.03, 0.12, 0.05, -0.01, 0.09]
    sums = sums_of(values)
    weight = 8 * 0.06**2
    centre = sums.total**2 / sums.pairs
    related = min(max((sums.products - centre) / (sums.squares - centre), 0), 0.8)
    spread = sums.squares * (1 + related) / (1 - related)

    def term(a: float) -> float:
        density: float = 2 * norm.pdf(a, scale=weight**-0.5)
        return density * exp(a * sums.total - a * a * spread / 2)

    oracle, _ = quad(term, 0, 200, limit=400)
    assert log_evidence_above(sums) == pytest.approx(log(oracle), rel=1e-6)


@given(observations)
def test_one_wild_pair_counts_for_no_more_than_the_clip(values: list[float]) -> None:
    assert log_evidence_above(sums_of([*values, 1e9])) == log_evidence_above(
        sums_of([*values, CLIP])
    )


@given(observations)
def test_evidence_is_finite_whatever_came(values: list[float]) -> None:
    assert np.isfinite(log_evidence_above(sums_of(values)))
    assert np.isfinite(log_evidence_above(sums_of([-0.15] * 5_000)))


@pytest.mark.parametrize(("related", "allowed"), [(0.0, 0.02), (0.3, 0.05)])
def test_exactly_the_demanded_ratio_is_accepted_no_more_often_than_allowed(
    related: float, allowed: float
) -> None:
    rng, accepted, runs = np.random.default_rng(2), 0, 300
    for _ in range(runs):
        noise = rng.standard_t(4, 60) * 0.06 / 2**0.5
        for i in range(1, 60):
            noise[i] = related * noise[i - 1] + (1 - related**2) ** 0.5 * noise[i]
        evidence = log_evidence_of_ratio(np.exp(log(1.3) + noise), 1.3)
        accepted += bool((evidence >= log(20)).any())
    assert accepted / runs <= allowed


def test_half_as_much_again_is_seen_within_ten_rounds() -> None:
    rng = np.random.default_rng(4)
    rounds = [
        int(
            np.argmax(
                log_evidence_of_ratio(np.exp(log(1.5) + rng.normal(0, 0.06, 60)), 1.3) >= log(20)
            )
        )
        + 1
        for _ in range(100)
    ]
    assert np.median(rounds) <= 10


def test_a_late_change_is_found_by_a_restart() -> None:
    process = RestartedPairs(24, log(100))
    crossed = [
        process.fold(hour, -0.1 if hour < 10 else 0.1) for hour in range(16) for _ in range(12)
    ]
    assert not any(crossed[: 10 * 12])
    assert any(crossed[10 * 12 :])


def test_a_ratio_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        log_evidence_of_ratio(np.array([1.2, np.nan]), 1.3)
