from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gates.samples import Outcome, Sample
from pytest_phase5.load.steps import StopRule

RULE = StopRule(goodput_share=0.9, error_limit=0.05, ttft=0.5, latency=2.0)


def sample(outcome: Outcome = Outcome.OK, **changes: Any) -> Sample:
    fields: dict[str, Any] = {
        "index": 0, "arm": "treatment", "block": 0, "scheduled": 1.0, "sent": 1.0,
        "first_token": 1.1, "end": 2.0,
    }  # fmt: skip
    return Sample(outcome=outcome, **fields | changes)


OK = sample()


def test_a_step_that_is_answered_well_holds() -> None:
    assert RULE.broken([OK] * 100) is None


def test_few_errors_are_allowed_and_more_are_not() -> None:
    assert RULE.broken([OK] * 95 + [sample(Outcome.FAILED)] * 5) is None
    told = RULE.broken([OK] * 94 + [sample(Outcome.CUT)] * 6)
    assert told == "errors 6.00% > 5.00% (n=100)"


@pytest.mark.parametrize(
    "bad",
    [
        sample(first_token=1.51),
        sample(first_token=None),
        sample(end=3.01),
        sample(Outcome.SHED),
        sample(Outcome.REJECTED),
        sample(Outcome.DROPPED, sent=None, first_token=None, end=None),
    ],
    ids=["late", "no first token", "long", "shed", "rejected", "dropped"],
)
def test_what_is_not_answered_well_and_in_time_is_no_goodput(bad: Sample) -> None:
    assert RULE.broken([OK] * 90 + [bad] * 10) is None
    told = RULE.broken([OK] * 89 + [bad] * 11)
    assert told == "goodput 89.00% < 90.00% of offered (n=100)"


def test_without_limits_of_time_a_slow_answer_is_a_good_one() -> None:
    assert StopRule().broken([sample(first_token=50.0, end=90.0)]) is None


def test_clients_that_left_were_not_offered() -> None:
    assert RULE.broken([OK] * 10 + [sample(Outcome.CANCELLED)] * 90) is None
    assert RULE.broken([sample(Outcome.CANCELLED)]) is None
    assert RULE.broken([]) is None


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({"first_token": None, "end": 1.5}, False),
        ({"first_token": None, "end": 1.51}, True),
        ({"first_token": 1.51, "end": 1.6}, True),
        ({"first_token": 1.2, "end": 9.0}, False),
    ],
)
def test_who_left_after_a_wait_beyond_the_limit_was_not_answered_well(
    changes: dict[str, Any], *, counts: bool
) -> None:
    left = sample(Outcome.CANCELLED, **changes)
    assert (RULE.broken([OK] * 8 + [left] * 2) is not None) == counts
    assert StopRule().broken([OK] + [left] * 9) is None


@given(
    good=st.integers(0, 50),
    bad=st.lists(st.sampled_from([o for o in Outcome if o is not Outcome.OK]), max_size=50),
)
def test_more_good_answers_never_break_a_step_that_held(good: int, bad: list[Outcome]) -> None:
    step = [OK] * good + [sample(outcome) for outcome in bad]
    if RULE.broken(step) is None:
        assert RULE.broken([*step, OK]) is None


@pytest.mark.parametrize(
    "changes",
    [{"goodput_share": 1.1}, {"error_limit": -0.1}, {"ttft": 0.0}, {"latency": float("nan")}],
)
def test_rules_that_cannot_be_compared_with_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"stop rule: .*; allowed"):
        StopRule(**changes)
