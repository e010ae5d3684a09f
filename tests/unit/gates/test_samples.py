from typing import Any

import pytest
from gate_builders import sample

from gates.groups import error_counts, lost_counts
from gates.samples import Outcome, from_row, to_row


def test_a_row_comes_back_as_the_sample_it_was() -> None:
    fine = sample(3, "all", status=200, protocol="h1")
    assert from_row(to_row(fine)) == fine


def test_the_class_of_a_request_is_written_only_where_there_is_one() -> None:
    plain, named = sample(3, "all"), sample(3, "all", kind="talks")
    assert "kind" not in to_row(plain)  # readers from before the field know all other rows
    assert to_row(named)["kind"] == "talks"
    assert from_row(to_row(named)) == named
    assert from_row({**to_row(plain), "kind": None}) == plain


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", 3),
        ("scheduled", "0"),
        ("scheduled", None),
        ("index", 1.5),
        ("index", True),
        ("outcome", "fine"),
        ("end", "later"),
        ("flags", 3),
        ("unheard_of", 1),
    ],
)
def test_a_row_of_the_wrong_form_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{field}|{value}"):
        from_row({**to_row(sample(0, "off")), field: value})


@pytest.mark.parametrize("row", [None, [], {}, "x"])
def test_what_is_no_row_is_refused(row: Any) -> None:
    with pytest.raises(ValueError, match="not a sample row"):
        from_row(row)


@pytest.mark.parametrize(
    ("outcome", "errors", "counted"),
    [
        (Outcome.OK, 0, 1),
        (Outcome.FAILED, 1, 1),
        (Outcome.CUT, 1, 1),
        (Outcome.SHED, 0, 0),
        (Outcome.REJECTED, 0, 0),
        (Outcome.CANCELLED, 0, 0),
        (Outcome.DROPPED, 0, 0),
    ],
)
def test_what_counts_towards_the_error_rate(outcome: Outcome, errors: int, counted: int) -> None:
    counts = error_counts([sample(0, "off", outcome=outcome)])
    assert (counts.bad, counts.n) == (errors, counted)


@pytest.mark.parametrize(
    ("changes", "lost", "sent"),
    [
        ({}, 0, 1),
        ({"outcome": Outcome.CUT}, 1, 1),
        ({"outcome": Outcome.FAILED}, 0, 1),
        ({"outcome": Outcome.FAILED, "end": None}, 1, 1),
        ({"outcome": Outcome.OK, "end": None}, 1, 1),
        ({"outcome": Outcome.CANCELLED, "end": None}, 0, 1),
        ({"outcome": Outcome.DROPPED, "sent": None, "end": None}, 0, 0),
    ],
)
def test_a_stream_is_lost_when_it_neither_ended_nor_was_left(
    changes: dict[str, Any], lost: int, sent: int
) -> None:
    counts = lost_counts([sample(0, "off", **changes)])
    assert (counts.bad, counts.n) == (lost, sent)
