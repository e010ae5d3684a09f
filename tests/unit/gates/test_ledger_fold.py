import itertools
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_builders import BLOCKS, FIRST, HEADER, counts, row, rows

from gates.ledger import CONTROL, TREATMENT, Counts, Row
from gates.ledger_fold import BLOCK_MINUTES, LedgerFold
from gates.minutes import Columns, Minutes

kinds = st.sampled_from(["sound", "invalid", "foreign", "same again", "differs", "crash"])
steps = st.lists(st.tuples(st.integers(1, 3), kinds, st.integers(0, 9)), max_size=25)


def story(given_steps: list[tuple[int, str, int]]) -> list[Row]:
    """Rows with everything that can be wrong with them, in some order."""
    minute, told = 0, [row(0)]
    for step, kind, bad in given_steps:
        minute += step
        each = row(minute, counts(TREATMENT, 60, bad), counts(CONTROL, 240))
        match kind:
            case "invalid":
                each = replace(each, invalid="counter reset")
            case "foreign":
                each = replace(each, commit="other")
            case "same again":
                each = told[-1]
            case "differs":
                each = replace(told[-1], counts=(counts(TREATMENT, 1),))
            case "crash":
                each = replace(each, crashes={"e1": 1})
            case _:
                pass
        told.append(each)
    return told


def columns(minutes: list[Minutes]) -> list[list[float]]:
    parts = [arm for m in minutes for arm in (m.treatment, m.control)]
    return [
        np.concatenate([getattr(part, item.name).ravel() for part in parts[half::2]]).tolist()
        for half in (0, 1)
        for item in fields(Columns)
    ]


@given(steps, st.lists(st.integers(1, 25), max_size=5))
def test_row_by_row_is_as_all_at_once(
    given_steps: list[tuple[int, str, int]], cuts: list[int]
) -> None:
    told = story(given_steps)
    whole, grown = LedgerFold(HEADER), LedgerFold(HEADER)
    at_once = [whole.fold(told)]
    edges = sorted({0, len(told), *(cut for cut in cuts if cut < len(told))})
    parts = [grown.fold(told[a:b]) for a, b in itertools.pairwise(edges)]
    assert columns(at_once) == columns(parts)
    assert whole == grown


def test_the_same_row_twice_counts_once() -> None:
    fold = LedgerFold(HEADER)
    assert len(fold.fold([row(0), row(1), row(1), row(0), row(2)])) == 3
    assert fold.disorder == ""


def test_a_minute_that_comes_again_and_differs_is_named_and_not_counted() -> None:
    fold = LedgerFold(HEADER)
    minutes = fold.fold([row(0), row(1), row(1, counts(TREATMENT, 5)), row(2)])
    assert len(minutes) == 3
    assert "came after" in fold.disorder


def test_a_clock_that_went_back_is_named() -> None:
    fold = LedgerFold(HEADER)
    fold.fold([row(5), row(3)])
    assert "came after" in fold.disorder


def test_gaps_and_invalid_minutes_are_counted_by_reason_and_do_not_soak() -> None:
    fold = LedgerFold(HEADER)
    fold.fold(
        [
            row(0),
            row(10),
            row(11, invalid="counter reset"),
            row(12, commit="other"),
            row(13, engines=()),
            row(14, counts(TREATMENT, 0), counts(CONTROL, 0)),
        ]
    )
    assert (fold.valid, fold.gaps) == (2, 9)
    assert fold.invalid == {
        "counter reset": 1,
        "build other, not abc": 1,
        "no engine answered": 1,
    }


@pytest.mark.parametrize(
    ("crashes", "fires"),
    [
        ([(0, {"e1": 1}), (9, {"e1": 1})], True),
        ([(0, {"e1": 1}), (10, {"e1": 1})], False),
        ([(0, {"e1": 2})], True),
        ([(0, {"e1": 1}), (4, {"e2": 1})], False),
        ([(0, {"e1": 1}), (4, {"e2": 1}), (8, {"e3": 1})], True),
    ],
)
def test_two_crashes_of_an_engine_or_three_of_the_fleet_within_ten_minutes(
    crashes: list[tuple[int, dict[str, int]]], *, fires: bool
) -> None:
    fold = LedgerFold(HEADER)
    fold.fold([row(minute, crashes=seen) for minute, seen in crashes])
    assert bool(fold.crash) is fires


def test_crashes_count_in_minutes_that_are_invalid() -> None:
    fold = LedgerFold(HEADER)
    fold.fold([row(0, invalid="counter reset", crashes={"e1": 2})])
    assert fold.crash


def test_the_busiest_key_is_followed_over_minutes() -> None:
    fold = LedgerFold(HEADER)
    told = [
        row(
            minute,
            replace(counts(TREATMENT, 60), busiest={"heavy": 15, f"k{minute}": 5, f"l{minute}": 4}),
        )
        for minute in range(200)
    ]
    fold.fold(told)
    assert list(fold.shares_of_busiest()) == [(TREATMENT, 3_000, 12_000)]
    assert len(fold.busiest[TREATMENT]) < 200


def blocks(arms: str, engine: str = "e1") -> list[Row]:
    """Whole blocks of one engine: T or C each, with as many requests as its place tells."""
    names = {"T": TREATMENT, "C": CONTROL}
    return [
        row(
            number * BLOCK_MINUTES + minute - FIRST % BLOCK_MINUTES,
            counts(names[arm], 10 + number, engine=engine),
        )
        for number, arm in enumerate(arms)
        for minute in range(BLOCK_MINUTES)
    ]


def paired(told: list[Row]) -> list[tuple[float, float]]:
    fold = LedgerFold(BLOCKS)
    return [
        (float(pair.treatment.n.sum()), float(pair.control.n.sum()))
        for pair in fold.fold(told).pairs
    ]


def test_a_treatment_block_pairs_with_the_nearest_of_control() -> None:
    # A block counts four of its five minutes; the last block is not known to be whole.
    assert paired(blocks("CTCCTC")) == [(44.0, 40.0), (56.0, 52.0)]
    assert paired(blocks("CCCC")) == []


def test_blocks_far_apart_do_not_pair() -> None:
    far = [*blocks("C"), *(replace(r, minute=r.minute + 100) for r in blocks("TC"))]
    assert paired(far) == []


def test_a_block_with_both_arms_is_no_observation() -> None:
    told = blocks("CTC")
    mixed = replace(told[7], counts=(*told[7].counts, counts(CONTROL, 9, engine="e1")))
    assert paired([*told[:7], mixed, *told[8:]]) == []


def test_keys_tell_of_assignment_where_they_are_known() -> None:
    known = replace(counts(TREATMENT, 60), new_keys=3)
    minutes = LedgerFold(HEADER).fold([row(0, known, counts(CONTROL, 240))])
    assert (minutes.treatment.assigned[0], minutes.control.assigned[0]) == (3.0, 240.0)


def test_arms_that_a_minute_lacks_are_empty() -> None:
    minutes = LedgerFold(HEADER).fold([row(0, Counts(arm=CONTROL, ok=3)), *rows(2)[1:]])
    np.testing.assert_array_equal(minutes.treatment.n, [0, 60])
    assert minutes.treatment.ttft.shape == (2, 9)
