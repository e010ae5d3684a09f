"""When service was good again: by windows, of which an empty one is not good."""

from chaos_builders import sample, spoiled, steady
from hypothesis import given
from hypothesis import strategies as st

from chaos.experiment import Steady
from chaos.windows import level, recovered_at, shift, unsteady
from gates.evidence import Outcome, Sample

RULE = Steady(ttft_seconds=1.0, window_seconds=0.5, windows=3)
HEALED, UNTIL = 104.0, 107.0


def recovery(samples: list[Sample]) -> float | None:
    back = recovered_at(samples, HEALED, UNTIL, RULE)
    return None if back is None else back - HEALED


def test_service_that_never_suffered_is_back_at_once() -> None:
    assert recovery(steady()) == 0


def test_errors_behind_the_fault_put_recovery_off_to_the_window_behind_them() -> None:
    assert recovery(spoiled(steady(), 104, 104.7, outcome=Outcome.FAILED)) == 1.0


def test_slow_answers_put_it_off_as_well() -> None:
    assert recovery(spoiled(steady(), 104, 105, first_token=110.0, end=110.1)) == 1.0


def test_a_window_without_requests_is_not_good() -> None:
    assert recovery([s for s in steady() if not 104.5 <= s.scheduled < 105]) == 1.0


def test_too_few_good_windows_in_a_row_are_no_recovery() -> None:
    assert recovery(spoiled(steady(), 104, 105.9, outcome=Outcome.CUT)) is None


def test_who_is_turned_away_behind_good_windows_was_not_back_yet() -> None:
    assert recovery(spoiled(steady(), 106.5, 107, outcome=Outcome.SHED)) is None
    assert recovery(spoiled(steady(), 105.0, 105.3, outcome=Outcome.SHED)) == 1.5


def test_what_we_ended_ourselves_says_nothing() -> None:
    assert recovery(spoiled(steady(), 106.8, 107, outcome=Outcome.CANCELLED)) == 0


@given(st.lists(st.floats(min_value=104, max_value=107), max_size=40))
def test_no_run_of_requests_recovers_before_the_fault_ends(times: list[float]) -> None:
    found = recovery([sample(at) for at in times])
    assert found is None or found >= 0


def test_steady_needs_requests_that_all_end_well_and_in_time() -> None:
    assert list(unsteady(steady(100, 102), RULE)) == []
    assert list(unsteady([], RULE)) == ["0 requests; needs 5"]
    (why,) = unsteady(spoiled(steady(100, 102), 100, 100.1, outcome=Outcome.SHED), RULE)
    assert why == "1 of 20 requests did not end well"
    (why,) = unsteady(spoiled(steady(100, 102), 100, 101, first_token=120.0, end=121.0), RULE)
    assert why.startswith("P95 TTFT")


def test_a_level_says_null_for_what_it_does_not_know() -> None:
    assert level([]).document() == {
        "n": 0,
        "outcomes": {},
        "error_rate": None,
        "error_rate_interval": None,
        "ttft_seconds": {},
    }
    few = level([sample(100)]).document()
    assert few["ttft_seconds"]["p95"]["interval"][1] is None


def test_a_shift_comes_with_the_widest_interval_of_both_phases() -> None:
    slow = [s for s in spoiled(steady(), 103, 104, first_token=None) if s.scheduled < 103]
    later = [sample(at / 10, first_token=at / 10 + 0.35) for at in range(1030, 1060)]
    found = shift(slow, later)
    assert found is not None
    rise, interval = found
    assert round(rise, 6) == 0.3
    assert interval.low <= rise <= interval.high
    assert shift([], later) is None
