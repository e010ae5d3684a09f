import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_builders import BLOCKS, FIRST, HEADER, counts, row, rows

from gates.ledger import (
    CLOSED_AFTER,
    CONTROL,
    TREATMENT,
    Counts,
    LedgerError,
    Row,
    header_line,
    is_closed,
    parse_header,
    parse_row,
    row_line,
)
from gates.ledger_file import appendable, mend, name_of, parse, text_of

numbers = st.integers(0, 1_000)
arms = st.builds(
    Counts,
    arm=st.just(TREATMENT),
    ok=numbers,
    failed=numbers,
    cut=numbers,
    shed=numbers,
    rejected=numbers,
    cancelled=numbers,
    early=numbers,
    ttft=st.sampled_from([(), (0,) * 9, (1, 2, 3, 4, 5, 6, 7, 8, 9)]),
    latency=st.sampled_from([(), (9, 0, 0, 0, 1)]),
    busiest=st.dictionaries(st.text("abcdef", min_size=1), st.integers(1, 9), max_size=3),
    new_keys=st.none() | numbers,
    bad_squares=st.none() | numbers,
)
minutes = st.builds(
    Row,
    minute=st.integers(FIRST, FIRST + 10_000),
    counts=st.tuples(arms),
    engines=st.sampled_from([("e1",), ("e1", "e2")]),
    commit=st.text(),
    config_sha256=st.text(),
    crashes=st.dictionaries(st.sampled_from(["e1", "e2"]), st.integers(1, 3)),
    invalid=st.text(),
    cells=st.dictionaries(st.sampled_from(["off", "all"]), st.tuples(*[numbers] * 4)),
)


@given(minutes)
def test_a_row_reads_back_as_it_was_written(given_row: Row) -> None:
    assert parse_row(row_line(given_row), HEADER) == given_row


@pytest.mark.parametrize("header", [HEADER, BLOCKS])
def test_a_header_reads_back_as_it_was_written(header: object) -> None:
    assert parse_header(header_line(header)) == header  # type: ignore[arg-type] # parametrised


def test_a_minute_is_closed_when_what_belongs_to_it_has_arrived() -> None:
    end = datetime.fromtimestamp((FIRST + 1) * 60, UTC)
    assert is_closed(FIRST, end + timedelta(seconds=CLOSED_AFTER))
    assert not is_closed(FIRST, end + timedelta(seconds=CLOSED_AFTER - 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minute": "yesterday"}, "not a ledger's row"),
        ({"counts": [{"arm": "both"}]}, "arm 'both'; allowed: treatment, control"),
        ({"counts": [{"arm": "control", "ok": -1}]}, "-1; allowed: a whole number from 0"),
        ({"counts": [{"arm": "control", "ok": True}]}, "True; allowed: a whole number from 0"),
        ({"counts": [{"arm": "control", "ok": 1.5}]}, "1.5; allowed: a whole number from 0"),
        ({"counts": [{"arm": "control", "ttft": [1, 2]}]}, "ttft has 2 buckets; its edges make 9"),
        ({"counts": [{"arm": "control"}, {"arm": "control"}]}, "an arm is there twice"),
        ({"counts": [{"arm": "control", "engine": "e1"}]}, "unit 'key' with engine 'e1'"),
        ({"counts": [{"arm": "control", "speed": 3}]}, "not a ledger's row"),
        ({"cells": {"off": [1, 2]}}, "a cell has 2 numbers"),
        ({"surprise": 1}, "not a ledger's row"),
    ],
)
def test_a_row_that_is_none_is_refused_with_what_is_wrong(
    change: dict[str, object], message: str
) -> None:
    body = json.loads(row_line(row(0)))
    with pytest.raises(LedgerError, match=message.replace("(", "\\(")):
        parse_row(json.dumps({**body, **change}), HEADER)


@pytest.mark.parametrize("text", ["", "null", "[]", "NaN", '{"minute": NaN}', "{"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(LedgerError):
        parse_row(text, HEADER)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", "phase5.ledger/9"),
        ("flag", "turbo"),
        ("stage", "off"),
        ("share", 0),
        ("unit", "user"),
        ("ttft_edges", [0.2, 0.1]),
        ("ttft_edges", []),
    ],
)
def test_a_header_with_an_impossible_field_is_refused(field: str, value: object) -> None:
    body = {**json.loads(header_line(HEADER)), field: value}
    with pytest.raises(LedgerError):
        parse_header(json.dumps(body))


def test_errors_of_one_key_count_as_one_draw() -> None:
    alone = replace(counts(TREATMENT, 100, bad=10), bad_squares=100)
    spread = replace(alone, bad_squares=10)
    unknown = replace(alone, bad_squares=None)
    assert (alone.keyed, spread.keyed, unknown.keyed) == (1.0, 10.0, 10.0)


def test_a_torn_last_line_is_lost_and_nothing_else() -> None:
    text = text_of(HEADER, rows(3))
    ledger = parse(text + row_line(row(3))[:40])
    assert (ledger.torn, ledger.problems, ledger.rows) == (True, (), tuple(rows(3)))
    assert mend(text + "{") == text


def test_a_line_damaged_in_the_middle_is_a_problem_that_names_it() -> None:
    lines = text_of(HEADER, rows(3)).splitlines(keepends=True)
    ledger = parse("".join([*lines[:2], "garbage\n", *lines[3:]]), "flag-3.jsonl")
    assert len(ledger.rows) == 2
    assert "flag-3.jsonl:3: not a ledger's row" in ledger.problems[0]


@pytest.mark.parametrize("text", ["", "\n", header_line(HEADER)[:-1], "garbage\n"])
def test_a_file_without_a_whole_header_is_no_ledger(text: str) -> None:
    with pytest.raises(LedgerError, match="ledger:1"):
        parse(text)


@given(st.lists(st.integers(-3, 30), max_size=12), st.none() | st.integers(0, 20))
def test_a_writer_never_goes_back_and_never_writes_an_open_minute(
    times: list[int], last: int | None
) -> None:
    now = datetime.fromtimestamp((FIRST + 20) * 60 + CLOSED_AFTER, UTC)
    before = None if last is None else FIRST + last
    written = [r.minute for r in appendable([row(t) for t in times], before, now)]
    assert written == sorted(set(written))
    assert all(before is None or minute > before for minute in written)
    assert all(minute < FIRST + 20 for minute in written)


def test_a_file_is_named_for_flag_and_epoch() -> None:
    assert name_of("ttft_pipeline", 7) == "ttft_pipeline-7.jsonl"


def test_zeros_go_without_saying_but_the_unknown_stays_unknown() -> None:
    body = json.loads(row_line(row(0, replace(counts(CONTROL, 5), new_keys=0))))
    assert body["counts"][0]["new_keys"] == 0
    assert not {"bad_squares", "failed", "shed"} & set(body["counts"][0])
