from fractions import Fraction
from math import comb, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gates.statistics import (
    at_least,
    at_most,
    chance_of_excess,
    clean_needed,
    quantile,
    quantile_interval,
    rate_interval,
    samples_for_quantile,
    surely_above,
    surely_below,
)

counts = st.integers(1, 120).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
rates = st.integers(1, 999).map(lambda k: Fraction(k, 1000))


def exact_at_most(bad: int, n: int, rate: Fraction) -> Fraction:
    return sum(
        (comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(bad + 1)), start=Fraction(0)
    )


@given(counts, rates)
def test_the_tail_equals_the_exact_sum(count: tuple[int, int], rate: Fraction) -> None:
    bad, n = count
    assert at_most(bad, n, float(rate)) == pytest.approx(
        float(exact_at_most(bad, n, rate)), rel=1e-9, abs=1e-15
    )


@given(counts, rates)
def test_both_tails_share_the_term_between_them(count: tuple[int, int], rate: Fraction) -> None:
    bad, n = count
    term = float(comb(n, bad) * rate**bad * (1 - rate) ** (n - bad))
    both = at_most(bad, n, float(rate)) + at_least(bad, n, float(rate))
    assert both == pytest.approx(1 + term, rel=1e-9)


@pytest.mark.parametrize(
    ("bad", "n"), [(0, 2_995), (1, 4_742), (2, 6_294), (3, 7_752), (4, 9_151), (5, 10_511)]
)
def test_published_sizes_show_one_in_a_thousand(bad: int, n: int) -> None:
    assert surely_below(bad, n, 0.001, 0.95)
    assert not surely_below(bad, n - 1, 0.001, 0.95)
    assert clean_needed(bad, bad, 0.001, 0.95) == n - bad


@given(counts, st.sampled_from([0.01, 0.05, 0.2, 0.5]), st.sampled_from([0.9, 0.95, 0.99]))
def test_clean_requests_needed_are_enough_and_not_one_too_many(
    count: tuple[int, int], limit: float, confidence: float
) -> None:
    bad, n = count
    more = clean_needed(bad, n, limit, confidence)
    assert more is not None
    assert surely_below(bad, n + more, limit, confidence)
    assert more == 0 or not surely_below(bad, n + more - 1, limit, confidence)


@given(counts, st.sampled_from([0.9, 0.95, 0.99]))
def test_the_interval_ends_where_the_decisions_turn(
    count: tuple[int, int], confidence: float
) -> None:
    bad, n = count
    interval = rate_interval(bad, n, confidence)
    assert interval.low <= bad / n <= interval.high
    if bad < n:
        assert surely_below(bad, n, interval.high + 1e-9, confidence)
        assert not surely_below(bad, n, interval.high - 1e-9, confidence)
    if bad:
        assert surely_above(bad, n, interval.low - 1e-9, confidence)
        assert not surely_above(bad, n, interval.low + 1e-9, confidence)


@given(counts, rates, rates)
def test_a_stricter_limit_never_helps(
    count: tuple[int, int], one: Fraction, other: Fraction
) -> None:
    strict, loose = sorted((float(one), float(other)))
    bad, n = count
    assert surely_below(bad, n, loose, 0.95) or not surely_below(bad, n, strict, 0.95)
    assert surely_above(bad, n, strict, 0.95) or not surely_above(bad, n, loose, 0.95)


def test_no_request_shows_nothing() -> None:
    assert not surely_below(0, 0, 0.5, 0.95)
    assert not surely_above(0, 0, 0.5, 0.95)
    assert (rate_interval(0, 0, 0.95).low, rate_interval(0, 0, 0.95).high) == (0, 1)


@given(st.tuples(st.integers(1, 30), st.integers(1, 30)), st.data())
def test_the_comparison_of_rates_equals_the_exact_sum(
    sizes: tuple[int, int], data: st.DataObject
) -> None:
    n, control_n = sizes
    bad = data.draw(st.integers(0, n))
    control_bad = data.draw(st.integers(0, control_n))
    total = bad + control_bad
    ways = sum(comb(n, k) * comb(control_n, total - k) for k in range(bad, min(n, total) + 1))
    exact = Fraction(ways, comb(n + control_n, total))
    found = chance_of_excess(bad, n, control_bad, control_n)
    assert found == pytest.approx(float(exact), rel=1e-9)


@pytest.mark.parametrize(("share", "n"), [(0.95, 59), (0.99, 299)])
def test_a_quantile_has_an_upper_bound_from_the_known_size_on(share: float, n: int) -> None:
    assert samples_for_quantile(share, 0.95) == n
    assert quantile_interval(range(n), share, 0.95).high == n - 1
    assert quantile_interval(range(n - 1), share, 0.95).high == inf


@pytest.mark.parametrize("n", [1, 13, 59, 90])
@pytest.mark.parametrize("share", ["0.5", "0.9", "0.95"])
def test_quantile_bounds_are_the_tightest_order_statistics(n: int, share: str) -> None:
    interval = quantile_interval(range(1, n + 1), float(share), 0.95)
    tails = [exact_at_most(k, n, Fraction(share)) for k in range(n)]
    above = [k + 1 for k, tail in enumerate(tails) if tail >= Fraction("0.95")]
    below = [k + 1 for k, tail in enumerate(tails) if 1 - tail >= Fraction("0.95")]
    assert interval.high == (above[0] if above else inf)
    assert interval.low == (below[-1] if below else -inf)


@pytest.mark.parametrize(
    ("times", "share", "expected"),
    [
        ((3.0, 1.0, 2.0), 0.5, 2.0),
        (range(1, 101), 0.95, 95),
        (range(1, 21), 0.95, 19),
        ((7.0,), 0.01, 7),
    ],
)
def test_a_quantile_is_one_of_the_times(
    times: tuple[float, ...], share: float, expected: float
) -> None:
    assert quantile(times, share) == expected


@pytest.mark.parametrize(("bad", "n"), [(-1, 5), (6, 5)])
def test_what_is_no_count_is_refused(bad: int, n: int) -> None:
    with pytest.raises(ValueError, match="is not a count"):
        at_most(bad, n, 0.5)


def test_a_quantile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no times"):
        quantile((), 0.5)
