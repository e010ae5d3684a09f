"""Ratios are of rounds that were measured next to each other, against the better peer."""

from itertools import product
from random import Random

import pytest
from bench_rounds import a_round
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from gates.statistics import student_quantile
from pytest_phase5.bench.arms import ARMS, OFF, ON, PEER, PEER_WIDE, orders, taking_part
from pytest_phase5.bench.asking import Round
from pytest_phase5.bench.pairing import Ratio, better_peer, ratios, rows
from pytest_phase5.bench.ratios import estimate, of_rounds

RATES = st.floats(0.1, 1e4)


def found(rounds: list[Round], measure: str, of: str) -> Ratio:
    (ratio,) = [r for r in ratios(rounds) if (r.measure, r.of) == (measure, of) and r.to != OFF]
    return ratio


def test_a_ratio_is_taken_within_a_round_so_that_drift_cancels() -> None:
    rounds = [a_round(ON, n, 20.0 / 2**n) for n in range(4)]
    rounds += [a_round(PEER, n, 10.0 / 2**n) for n in range(4)]
    ratio = found(rounds, "requests_per_second", ON)
    assert ratio.pairs == 4
    assert ratio.estimate.ratio == pytest.approx(2)
    assert ratio.estimate.low == pytest.approx(2)


def test_the_row_of_the_peer_that_is_better_in_a_measure_is_the_denominator() -> None:
    rounds = [
        one
        for n in range(3)
        for one in (
            a_round(ON, n, 40.0, 50.0),
            a_round(PEER, n, 10.0, 100.0),
            a_round(PEER_WIDE, n, 20.0, 400.0),
        )
    ]
    rate, wait = (found(rounds, name, ON) for name in ("requests_per_second", "ttft_p95_ms"))
    assert (rate.to, rate.estimate.ratio) == (PEER_WIDE, pytest.approx(2))
    assert (wait.to, wait.estimate.ratio) == (PEER, pytest.approx(0.5))


def test_without_a_peer_only_our_own_arms_are_divided() -> None:
    rounds = [a_round(ON, 0, 2.0), a_round(OFF, 0, 1.0)]
    assert better_peer(rounds, "requests_per_second") == PEER
    assert {(ratio.of, ratio.to) for ratio in ratios(rounds)} == {(ON, OFF)}


@pytest.mark.parametrize(("state", "pairs"), [("unequal", 1), ("invalid", 1), ("bounded", 2)])
def test_rounds_of_other_work_or_a_late_client_do_not_count(state: str, pairs: int) -> None:
    rounds = [a_round(ON, 0, 2.0), a_round(PEER, 0, 1.0), a_round(PEER, 1, 1.0)]
    rounds.append(a_round(ON, 1, 200.0, state=state))  # type: ignore[arg-type] # one of them
    assert found(rounds, "requests_per_second", ON).pairs == pairs


def test_a_row_has_medians_of_what_counts_and_tells_of_all_that_happened() -> None:
    rounds = [a_round(ON, n, rate) for n, rate in enumerate((1.0, 2.0, 9.0))]
    row = rows([*rounds, a_round(ON, 3, 500.0, state="unequal")])[ON]
    assert row["measures"]["requests_per_second"] == 2
    assert row["measures"]["cpu_ms_per_request"] == 50
    assert row["measures"]["mib_per_stream"] == 10
    assert row["states"] == {"whole": 3, "unequal": 1}
    assert row["reasons"] == ["it was unequal"]


@given(st.lists(RATES, min_size=2, max_size=12))
def test_the_estimate_lies_within_its_interval_and_turns_with_the_ratio(found: list[float]) -> None:
    there, back = estimate(found), estimate([1 / ratio for ratio in found])
    assert there.low is not None
    assert there.high is not None
    assert there.low <= there.ratio * (1 + 1e-9)
    assert there.ratio <= there.high * (1 + 1e-9)
    assert back.ratio == pytest.approx(1 / there.ratio)
    assert min(found) <= of_rounds(found).ratio <= max(found)


def test_one_pair_has_no_interval() -> None:
    assert of_rounds([3.0]).rounded() == {"ratio": 3.0}


@pytest.mark.parametrize(
    ("degrees", "confidence"), list(product((1, 2, 4, 9, 40), (0.8, 0.95, 0.99)))
)
def test_students_quantile_is_that_of_scipy(degrees: int, confidence: float) -> None:
    wanted = float(student.ppf((1 + confidence) / 2, degrees))
    assert student_quantile(degrees, confidence) == pytest.approx(wanted, rel=1e-6)


def test_each_round_has_every_arm_once_in_an_order_of_its_seed() -> None:
    drawn = orders(ARMS, 50, Random(3))  # noqa: S311 - an order, not a secret
    assert drawn == orders(ARMS, 50, Random(3))  # noqa: S311 - drawn, not secret
    assert all(sorted(one) == sorted(ARMS) for one in drawn)
    assert {one[0] for one in drawn} == set(ARMS)


def test_the_wide_peer_takes_part_where_it_differs_from_the_peer() -> None:
    assert PEER_WIDE not in taking_part(32)
    assert PEER_WIDE in taking_part(33)
