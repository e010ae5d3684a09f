"""Numbers as all forms print them."""

import math

import pytest
from gate_builders import answers, evidence, healthy, policy, request, swapped
from hypothesis import given
from hypothesis import strategies as st

from gates.criteria import Outcome
from gates.judge import judge
from gates.shown import in_the_way, number, shown, worst_first
from gates.verdict import CriterionRow

BAD = judge(policy(), evidence(swapped(healthy(), answers(failed=60))), request())


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "?"), (math.nan, "?"), (-math.inf, "?"), (0.0, "0"), (0.00093572, "0.0009357")],
)
def test_a_number_that_nobody_has_is_a_question(value: float | None, text: str) -> None:
    assert number(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_reads_back_as_itself_at_four_digits(value: float) -> None:
    read = float(number(value))
    assert math.isinf(read) or read == pytest.approx(value, rel=1e-3, abs=5e-324)


def test_an_open_interval_shows_which_end_is_open() -> None:
    row = CriterionRow(id="a", outcome=Outcome.INCONCLUSIVE, reason="b", interval=(0.5, None))
    assert shown(row).interval == "0.5 to ?"
    assert dict(shown(row).facts())["estimate"] == "?"


def test_reasons_are_one_line() -> None:
    row = CriterionRow(id="a", outcome=Outcome.FAIL, reason="one\n two", needs=7)
    assert (shown(row).reason, shown(row).needs) == ("one two", "about 7")


def test_what_is_broken_comes_first_and_what_is_met_is_in_nobodys_way() -> None:
    assert worst_first(BAD)[0].id == in_the_way(BAD)[0].id == "error_rate"
    assert {row.outcome for row in in_the_way(BAD)} == {Outcome.FAIL}
