"""D5: a digest that merged everything into one centroid gave the mean for every quantile."""

import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from math import ceil
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.tdigest import BUFFERS, COMPRESSION, TDigest

SHARES = (0.5, 0.95, 0.99)
N = 20_000


def digest(values: list[float]) -> TDigest:
    made = TDigest()
    for value in values:
        made.add(value)
    return made


def rank_error(values: list[float], share: float, answer: float) -> float:
    """How far the answer's rank is from the share, as a share of all values."""
    ordered = sorted(values)
    n = len(ordered)
    low, high = bisect_left(ordered, answer) / n, bisect_right(ordered, answer) / n
    return max(0.0, low - share, share - high)


def assert_within_the_bound(made: TDigest, values: list[float]) -> None:
    assert made.n == len(values)
    for share in SHARES:
        error = rank_error(values, share, made.quantile(share))
        assert error <= made.error_bound(share) + 1e-12, (share, error)


def shapes() -> dict[str, Callable[[random.Random], float]]:
    return {
        "uniform": lambda r: r.random(),
        "normal": lambda r: r.gauss(0, 1),
        "exponential": lambda r: r.expovariate(1),
        "heavy tail": lambda r: r.paretovariate(1.1),
        "log-normal": lambda r: r.lognormvariate(5, 1),
        "two humps": lambda r: r.gauss(r.choice((0, 1000)), 1),
        "few values": lambda r: float(r.choice((1, 2, 3, 500))),
        "one value": lambda _: 7.0,
        "one in twenty slow": lambda r: r.gauss(5000, 9) if r.random() < 0.05 else r.gauss(100, 9),
    }


def orders() -> dict[str, Callable[[list[float]], list[float]]]:
    def from_both_ends(values: list[float]) -> list[float]:
        ordered = sorted(values)
        return [ordered[-(i // 2) - 1 if i % 2 else i // 2] for i in range(len(ordered))]

    return {
        "as it comes": list,
        "rising": sorted,
        "falling": lambda values: sorted(values, reverse=True),
        "from both ends": from_both_ends,
        "from the middle": lambda values: from_both_ends(values)[::-1],
        "in blocks": lambda values: [v for i in range(50) for v in sorted(values[i::50])],
    }


@pytest.mark.parametrize("order", orders().values(), ids=list(orders()))
@pytest.mark.parametrize("shape", shapes().values(), ids=list(shapes()))
def test_a_quantile_is_within_the_stated_bound_whatever_the_shape_and_order(
    shape: Callable[[random.Random], float], order: Callable[[list[float]], list[float]]
) -> None:
    source = random.Random(5)  # noqa: S311 - a reproducible choice, not a secret
    values = [shape(source) for _ in range(N)]
    made = digest(order(values))
    assert_within_the_bound(made, values)
    assert made.size <= (BUFFERS + 1) * COMPRESSION + 1


def test_d5_201_values_have_quantiles_and_not_their_mean_for_all() -> None:
    source = random.Random(1)  # noqa: S311 - as above
    values = [source.lognormvariate(6, 0.6) for _ in range(201)]
    ordered = sorted(values)
    made = digest(values)
    assert [made.quantile(share) for share in SHARES] == [
        ordered[ceil(share * 201) - 1] for share in SHARES
    ]
    assert len({made.quantile(share) for share in SHARES} | {fmean(values)}) == 4


def test_d5_the_95th_percentile_of_5000_is_not_near_the_middle() -> None:
    source = random.Random(1)  # noqa: S311 - as above
    values = [source.lognormvariate(6, 0.6) for _ in range(5_000)]
    exact = sorted(values)[ceil(0.95 * 5_000) - 1]
    assert digest(values).quantile(0.95) == pytest.approx(exact, rel=0.01)


FINITE = st.floats(-1e9, 1e9)


@given(st.lists(FINITE, min_size=1, max_size=300), st.floats(0, 1))
def test_few_values_have_exact_quantiles(values: list[float], share: float) -> None:
    made = digest(values)
    assert made.quantile(share) == sorted(values)[max(ceil(share * len(values)), 1) - 1]
    assert made.error_bound(share) == 0


PARTS = st.lists(
    st.tuples(st.integers(1, 3000), st.sampled_from(list(shapes())), st.integers(0, 9)),
    min_size=3,
    max_size=6,
)


def drawn(n: int, shape: str, seed: int) -> list[float]:
    source = random.Random(seed)  # noqa: S311 - as above
    return [shapes()[shape](source) for _ in range(n)]


@settings(max_examples=25, deadline=None)
@given(PARTS)
def test_merged_digests_are_within_the_bound_in_whatever_order_they_are_merged(
    parts: list[tuple[int, str, int]],
) -> None:
    lists = [drawn(*part) for part in parts]
    left, right = TDigest(), TDigest()
    for each in lists:
        left.merge(digest(each))
    for each in reversed(lists):
        nested = digest(each)
        nested.merge(right)
        right = nested
    values = [value for each in lists for value in each]
    assert_within_the_bound(left, values)
    assert_within_the_bound(right, values)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5000), st.sampled_from(list(shapes())), st.integers(0, 9))
def test_quantiles_rise_with_the_share_from_the_least_value_to_the_greatest(
    n: int, shape: str, seed: int
) -> None:
    values = drawn(n, shape, seed)
    made = digest(values)
    found = [made.quantile(percent / 1000) for percent in range(1001)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (min(values), max(values))


def test_memory_stays_bounded_however_often_digests_are_merged() -> None:
    total, part = TDigest(), digest([float(n) for n in range(3000)])
    for _ in range(200):
        total.merge(part)
    assert total.n == 600_000
    assert total.size <= (BUFFERS + 1) * COMPRESSION + 1


def test_merging_leaves_the_other_digest_as_it_is() -> None:
    part = digest([1.0, 2.0])
    total = digest([9.0])
    total.merge(part)
    assert (part.n, part.quantile(1), total.n, total.quantile(1)) == (2, 2.0, 3, 9.0)


def test_an_empty_digest_merges_without_a_trace() -> None:
    total = digest([3.0])
    total.merge(TDigest())
    assert (total.n, total.quantile(0), total.quantile(1)) == (1, 3.0, 3.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_has_no_place_among_numbers_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite values, given"):
        TDigest().add(value)


def test_questions_without_an_answer_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no quantile 0\.5 of 0 values"):
        TDigest().quantile(0.5)
    with pytest.raises(ValueError, match=r"no quantile 1\.1 of 1 values"):
        digest([1.0]).quantile(1.1)
    with pytest.raises(ValueError, match="at least 10, given 9"):
        TDigest(9)
