"""Figures of a part: exact intervals, null where there is nothing, and honest rates."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gates.samples import Outcome, Sample
from gates.usage import FRONT_END, Usage
from pytest_phase5.load.driver import LoadResult
from pytest_phase5.load.joining import Run, joined
from pytest_phase5.load.resources import Reading, on_the_clock
from pytest_phase5.load.summary import peak_streams, quantiles, summarise


def sample(index: int, **changes: Any) -> Sample:
    fields: dict[str, Any] = {
        "arm": "treatment",
        "block": 1,
        "scheduled": float(index),
        "sent": float(index),
        "first_token": index + 0.1,
        "end": index + 0.5,
        "outcome": Outcome.OK,
        "output_tokens": 5,
    }
    return Sample(index=index, **fields | changes)


@pytest.mark.parametrize(
    ("n", "share", "ranks"),
    [(1_000, 0.95, (936, 964)), (1_000, 0.99, (983, 997)), (100, 0.95, (90, 100))],
)
def test_intervals_are_the_order_statistics_of_the_binomial(
    n: int, share: float, ranks: tuple[int, int]
) -> None:
    found = next(q for q in quantiles([float(r) for r in range(1, n + 1)]) if q.share == share)
    assert (found.low, found.high) == ranks


def test_so_few_requests_give_no_upper_bound_and_none_no_quantile() -> None:
    assert quantiles([1.0] * 100)[2].high is None
    assert quantiles([]) == ()
    assert summarise([]).n == 0


def test_what_did_not_end_well_is_counted_and_has_no_time() -> None:
    cut = sample(1, outcome=Outcome.CUT, end=1_000.0)
    found = summarise([sample(0), cut, sample(2)])
    assert found.outcomes == {"ok": 2, "cut": 1}
    assert found.times["latency"][2].value == pytest.approx(0.5)
    assert found.good_share == pytest.approx(2 / 3)


def test_tpot_leaves_the_first_token_out_and_needs_a_second() -> None:
    assert sample(0).tpot == pytest.approx(0.1)
    assert sample(0, output_tokens=1).tpot is None
    assert sample(0, output_tokens=None).tpot is None


@given(spans=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), min_size=1, max_size=30))
def test_the_peak_is_what_counting_at_every_start_finds(spans: list[tuple[int, int]]) -> None:
    samples = [sample(i, sent=float(s), end=float(s + d)) for i, (s, d) in enumerate(spans)]
    counted = max(sum(s <= at < s + d for s, d in spans) for at, _ in spans)
    assert peak_streams(samples) == counted


def test_readings_stand_beside_the_requests_that_had_ended() -> None:
    readings = [Reading(at, FRONT_END, {"rss_bytes": 7}) for at in (100.0, 101.6)]
    usage = on_the_clock(readings, 100.0, [sample(0), sample(1)])
    assert [(u.at, u.requests) for u in usage] == [(0.0, 0), (pytest.approx(1.6), 2)]


def test_absent_figures_stay_absent() -> None:
    (found,) = summarise([sample(0)], [Usage(at=0.0, part=FRONT_END, requests=1)]).resources
    assert found.cpu_seconds is None
    assert set(found.peaks.values()) == {None}


def test_runs_are_joined_on_the_clock_of_the_first() -> None:
    rows = (sample(0, block=0), sample(1, block=1))
    result = LoadResult(rows, valid=True, invalid_reason="", started="")
    whole = joined([Run(result, 10.0), Run(result, 70.0)])
    assert [s.index for s in whole] == [0, 1, 2, 3]
    assert [s.block for s in whole] == [0, 1, 0, 2]
    assert [s.scheduled for s in whole] == [0, 1, 60, 61]
