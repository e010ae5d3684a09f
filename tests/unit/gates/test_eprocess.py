from itertools import pairwise
from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import binom
from ville import BernoulliTest

from gates.dispersion import FLOOR, Dispersion
from gates.eprocess import (
    ODDS_OF_ERRORS,
    ODDS_OF_TIMES,
    Array,
    Evidence,
    Restarted,
    log_mean,
    one_sample,
    rates_above,
    rates_below,
    shares,
    tolerant,
    two_sample,
)

limits = st.floats(0.0005, 0.9)
pairs = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=30)


def test_a_factor_is_the_ratio_of_binomial_probabilities() -> None:
    n, bad, limit = np.array([50.0, 0.0, 300.0]), np.array([3.0, 0.0, 1.0]), 0.01
    rates = rates_above(limit, of_times=False)
    oracle = binom.logpmf(bad[:, None], n[:, None], rates) - binom.logpmf(bad, n, limit)[:, None]
    np.testing.assert_allclose(one_sample(bad, n, limit, rates), oracle, rtol=1e-9, atol=1e-9)


def test_two_arms_are_compared_by_whose_a_bad_request_is() -> None:
    bad, control = np.array([5.0, 0.0, 2.0]), np.array([1.0, 4.0, 0.0])
    share, odds = np.array([0.2, 0.2, 0.5]), np.array(ODDS_OF_ERRORS)
    raised = share[:, None] * odds / (1 - share[:, None] + share[:, None] * odds)
    together = bad + control
    oracle = (
        binom.logpmf(bad[:, None], together[:, None], raised)
        - binom.logpmf(bad, together, share)[:, None]
    )
    np.testing.assert_allclose(two_sample(bad, control, share, odds), oracle, atol=1e-9)


def test_the_mixture_is_that_of_an_independent_library() -> None:
    # A beta prior with that much weight is a point; the library then gives the plain ratio.
    stream = (np.random.default_rng(3).random(400) < 0.03).astype(float)
    limit, weight = 0.01, 1e9
    rates = rates_above(limit, of_times=False)
    alone = [
        BernoulliTest(limit, prior=(rate * weight, (1 - rate) * weight))
        .update(stream)
        .log_e_values_
        for rate in rates
    ]
    mixture = Evidence.over(len(rates))
    ours = []
    for bad in stream:
        mixture.fold(one_sample(np.array([bad]), np.ones(1), limit, rates), np.ones(1))
        ours.append(mixture.log)
    last = [float(np.atleast_1d(log_e)[-1]) for log_e in alone]
    oracle = logsumexp(last) - log(len(rates))
    assert ours[-1] == pytest.approx(oracle, abs=1e-3)


@given(limits, st.booleans())
def test_alternatives_lie_beyond_the_limit_and_are_probabilities(
    limit: float, of_times: bool
) -> None:
    above = rates_above(limit, of_times=of_times)
    assert ((above > limit) & (above < 1)).all()
    assert ((rates_below(limit) < limit) & (rates_below(limit) > 0)).all()


@given(st.integers(1, 60), st.floats(0.01, 0.5), st.sampled_from([1.0, 1.05, 1.5]))
def test_the_mean_factor_of_a_comparison_is_one_when_nothing_differs(
    together: int, share: float, ratio: float
) -> None:
    tolerated = tolerant(np.array([share]), ratio)
    bad = np.arange(together + 1.0)
    share_of_bad = np.full(len(bad), tolerated[0])
    factors = np.exp(two_sample(bad, together - bad, share_of_bad, np.array(ODDS_OF_TIMES)))
    chances = binom.pmf(bad, together, tolerated[0])
    np.testing.assert_allclose(chances @ factors, 1.0, rtol=1e-9)


def test_a_minute_without_traffic_says_nothing() -> None:
    none = np.zeros(3)
    assert not two_sample(none, none, shares(none, none), np.array(ODDS_OF_ERRORS)).any()
    assert not one_sample(none, none, 0.1, rates_above(0.1, of_times=True)).any()


def folded(
    bad: Array, control: Array, share: Array, cuts: list[int], hours: int = 3
) -> tuple[list[bool], list[float], float]:
    odds = np.array(ODDS_OF_TIMES)
    process, scatter = Restarted(hours, len(odds), log(50)), Dispersion(1.5, binomial=False)
    crossed: list[bool] = []
    effects: list[float] = []
    clock = np.arange(len(bad)) // 3  # hours of three minutes, so that restarts come often
    edges = sorted({0, len(bad), *(cut for cut in cuts if cut < len(bad))})
    for begin, end in pairwise(edges):
        part = slice(begin, end)
        together = bad[part] + control[part]
        effect = scatter.fold(
            together * 20,
            bad[part] - together * share[part],
            together * share[part] * (1 - share[part]),
        )
        effects.extend(effect.tolist())
        increments = two_sample(bad[part], control[part], share[part], odds)
        crossed.extend(process.fold(clock[part], increments, effect).tolist())
    return crossed, effects, process.log


@given(pairs, st.lists(st.integers(1, 29), max_size=6))
def test_how_the_minutes_are_cut_changes_no_bit(
    minutes: list[tuple[int, int]], cuts: list[int]
) -> None:
    bad, control = np.array(minutes, dtype=np.float64).T
    share = np.full(len(minutes), 0.4)
    assert folded(bad, control, share, cuts) == folded(bad, control, share, [])


@settings(max_examples=25)
@given(pairs)
def test_skipping_stretches_finds_every_crossing(minutes: list[tuple[int, int]]) -> None:
    bad, control = np.array(minutes, dtype=np.float64).T
    share, odds = np.full(len(minutes), 0.4), np.array(ODDS_OF_TIMES)
    clock = np.arange(len(bad)) // 3
    process = Restarted(50, len(odds), log(50))
    crossed = process.fold(clock, two_sample(bad, control, share, odds), np.ones(len(bad)))
    for minute in range(len(bad)):
        starts = [0, *(m for m in range(3, minute + 1, 3))]
        weights = [0.5, *[1 / 100] * (len(starts) - 1)]
        terms = two_sample(bad, control, share, odds)
        total = sum(
            w * exp(float(log_mean(terms[s : minute + 1].sum(axis=0))))
            for w, s in zip(weights, starts, strict=True)
        )
        assert crossed[minute] == (total >= 50)


def test_a_good_history_does_not_hide_what_comes_late() -> None:
    hours = np.arange(14 * 60) // 60
    n = np.full(len(hours), 60.0)
    bad = np.where(np.arange(len(hours)) >= 12 * 60, 1.0, 0.0)
    rates = rates_above(0.001, of_times=False)
    increments = one_sample(bad, n, 0.001, rates)
    restarted = Restarted(24, len(rates), log(1000))
    crossed = restarted.fold(hours, increments, np.ones(len(hours)))
    assert 12 * 60 <= int(np.argmax(crossed)) < 12 * 60 + 20
    single = np.cumsum(increments, axis=0)[: 12 * 60 + 20]
    assert log_mean(single).max() < log(1000)


def test_the_budget_is_renewed_and_state_stays_bounded() -> None:
    hours = np.arange(100 * 60) // 60
    rates = rates_above(0.001, of_times=False)
    process = Restarted(24, len(rates), log(1000))
    n, bad = np.full(len(hours), 60.0), np.zeros(len(hours))
    process.fold(hours, one_sample(bad, n, 0.001, rates), np.ones(len(hours)))
    assert len(process.starts) == 100 % 24 - 1


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5])
def test_equal_arms_are_called_different_no_more_often_than_allowed(share: float) -> None:
    rng, odds, runs = np.random.default_rng(11), np.array(ODDS_OF_ERRORS), 300
    hours = np.arange(480) // 60
    wrong = 0
    for _ in range(runs):
        control = rng.poisson(2.0, len(hours)).astype(np.float64)
        bad = rng.binomial(control.astype(int), share).astype(np.float64)
        process = Restarted(8, len(odds), log(1 / 0.05))
        increments = two_sample(bad, control - bad, np.full(len(hours), share), odds)
        wrong += bool(process.fold(hours, increments, np.ones(len(hours))).any())
    assert wrong <= binom.ppf(0.9999, runs, 0.05)


def test_coins_have_no_design_effect_and_clusters_have_theirs() -> None:
    rng = np.random.default_rng(5)
    n = np.full(3_000, 60.0)
    coins = rng.binomial(60, 0.1, 3_000).astype(np.float64)
    threefold = 3.0 * rng.binomial(20, 0.1, 3_000)
    for bad, expected in ((coins, FLOOR), (threefold, 3.0)):
        effect = Dispersion(1.5, binomial=True).fold(n, bad, n)
        assert effect[0] == 1.5
        assert effect[-1] == pytest.approx(expected, rel=0.2)


def test_a_design_effect_never_knows_its_own_minute() -> None:
    n, calm = np.full(240, 60.0), np.full(240, 6.0)
    wild = np.where(np.arange(240) >= 180, np.arange(240) % 2 * 60.0, calm)
    one, other = (Dispersion(1.5, binomial=True).fold(n, bad, n) for bad in (calm, wild))
    np.testing.assert_array_equal(one[:181], other[:181])
    assert (other[185:] > one[185:]).all()


def test_noise_that_outlasts_a_minute_is_found_by_long_blocks() -> None:
    rng = np.random.default_rng(6)
    noise = np.zeros(3_000)
    for minute in range(1, 3_000):
        noise[minute] = 0.9 * noise[minute - 1] + rng.normal(0, 0.1)
    n = np.full(3_000, 60.0)
    bad = rng.binomial(60, 0.1 * np.exp(noise - noise.var() / 2)).astype(np.float64)
    effect = Dispersion(1.5, binomial=True).fold(n, bad, n)[-1]
    # The variance of sums over many minutes: coins, and noise times (1 + 0.9) / (1 - 0.9).
    expected = 1 + 60 * 0.1 / 0.9 * noise.var() * 19
    assert 0.5 * expected < effect < 1.5 * expected
