from math import exp, inf, lgamma, log, log1p

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gates.planning import (
    BELOW,
    chance_of_pass,
    clean_needed_sequential,
    expected_needed,
    further_needed,
    log_evidence_below,
    most_bad,
    reach,
)

limits = st.floats(0.0005, 0.2)
alphas = st.sampled_from([0.2, 0.05, 0.01])


@pytest.mark.parametrize(
    ("limit", "alpha", "clean"), [(0.001, 0.05, 3_651), (0.001, 0.01, 5_423), (0.01, 0.05, 364)]
)
def test_published_numbers_of_clean_requests(limit: float, alpha: float, clean: int) -> None:
    assert clean_needed_sequential(limit, alpha) == clean


@given(limits, alphas)
def test_one_clean_request_fewer_is_too_few(limit: float, alpha: float) -> None:
    clean = clean_needed_sequential(limit, alpha)
    assert log_evidence_below(0, clean, limit) >= -log(alpha)
    assert log_evidence_below(0, clean - 1, limit) < -log(alpha)


@given(limits, alphas, st.integers(0, 20))
def test_the_most_bad_ones_pass_and_one_more_does_not(
    limit: float, alpha: float, times: int
) -> None:
    n = times * clean_needed_sequential(limit, alpha)
    most = most_bad(n, limit, alpha)
    if most is None:
        assert log_evidence_below(0, n, limit) < -log(alpha)
    else:
        assert log_evidence_below(most, n, limit) >= -log(alpha)
        assert log_evidence_below(most + 1, n, limit) < -log(alpha)


def test_the_evidence_has_mean_one_at_the_limit() -> None:
    n, limit = 400, 0.01
    terms = (
        exp(
            lgamma(n + 1)
            - lgamma(bad + 1)
            - lgamma(n - bad + 1)
            + bad * log(limit)
            + (n - bad) * log1p(-limit)
            + log_evidence_below(bad, n, limit)
        )
        for bad in range(n + 1)
    )
    assert sum(terms) == pytest.approx(1, rel=1e-9)


def test_no_alternative_lies_at_or_over_the_limit() -> None:
    assert all(0 < share < 1 for share in BELOW)


@given(limits, st.floats(0, 0.6), st.integers(0, 3))
def test_further_requests_at_the_given_rate_do_pass(limit: float, share: float, bad: int) -> None:
    rate = share * limit
    more = further_needed(bad, 1_000, limit, rate)
    assert more is not None
    assert log_evidence_below(bad + rate * more, 1_000 + more, limit) >= log(20)


@given(limits, st.floats(1, 9))
def test_at_or_over_the_limit_no_number_of_requests_helps(limit: float, times: float) -> None:
    assert expected_needed(limit, limit * times) is None


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_about_half_of_the_attempts_have_passed_at_the_expected_number(share: float) -> None:
    n = expected_needed(0.001, share * 0.001)
    assert n is not None
    assert 0.4 < chance_of_pass(n, 0.001, share * 0.001) < 0.75


def test_the_chance_is_that_of_simulated_requests() -> None:
    bad = np.random.default_rng(1).binomial(20_000, 0.0004, size=4_000)
    passed = [log_evidence_below(int(b), 20_000, 0.001) >= log(20) for b in bad]
    assert np.mean(passed) == pytest.approx(chance_of_pass(20_000, 0.001, 0.0004), abs=0.03)


def test_a_day_at_one_request_a_second_reaches_one_in_a_thousand() -> None:
    day = reach(0.001, requests_per_second=1, soak_hours=24, rate=0.0003)
    assert day.possible
    assert day.requests == 86_400
    assert day.chance > 0.999


def test_the_sizes_of_the_requirements_cannot_show_their_own_limits() -> None:
    thousand = reach(0.001, requests_per_second=1_000 / 3600, soak_hours=1, rate=0)
    assert not thousand.possible
    assert thousand.chance == 0


@pytest.mark.parametrize("limit", [0.0, 1.0, -0.1, inf])
def test_a_limit_outside_its_range_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="a limit lies between 0 and 1"):
        clean_needed_sequential(limit)


def test_negative_traffic_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0, given -1"):
        reach(0.001, requests_per_second=-1, soak_hours=1, rate=0)
