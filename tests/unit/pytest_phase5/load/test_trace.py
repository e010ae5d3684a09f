import json
from pathlib import Path

import pytest

from pytest_phase5.load.plan import LeaveAfter
from pytest_phase5.load.shaped import replayed
from pytest_phase5.load.trace import read_trace
from pytest_phase5.load.workload import SHORT


def written(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_csv_and_json_lines_say_the_same(tmp_path: Path) -> None:
    table = written(
        tmp_path, "t.csv",
        "at,words,tokens,kind,leave_tokens,leave_seconds",
        "0,,,,,", "0.5,40,3,long,,", "0.5,,,,2,", "1.25,,,,,0.5",
    )  # fmt: skip
    rows = [
        {"at": 0},
        {"at": 0.5, "words": 40, "tokens": 3, "kind": "long"},
        {"at": 0.5, "leave_tokens": 2},
        {"at": 1.25, "leave_seconds": 0.5, "words": None},
    ]
    lines = written(tmp_path, "t.jsonl", *map(json.dumps, rows), "")
    calls = read_trace(table, SHORT, seed=1)
    assert calls == read_trace(lines, SHORT, seed=1)
    assert [at for at, _ in calls] == [0, 0.5, 0.5, 1.25]
    plain, long, few, short = (request for _, request in calls)
    assert (plain.kind, plain.leave_after, plain.body["max_tokens"]) == (None, None, 16)
    assert (long.kind, long.body["max_tokens"]) == ("long", 3)
    assert len(long.body["messages"][-1]["content"].split()) == 40
    assert few.leave_after == LeaveAfter(tokens=2)
    assert short.leave_after == LeaveAfter(seconds=0.5)
    assert len({request.key for _, request in calls}) == 4
    assert len({str(request.body["messages"]) for _, request in calls}) == 4


def test_a_body_of_the_trace_replaces_what_was_made(tmp_path: Path) -> None:
    asked = {"messages": [{"role": "user", "content": "once"}], "temperature": 1}
    line = json.dumps({"at": 0, "body": asked})
    ((_, request),) = read_trace(written(tmp_path, "t.jsonl", line), SHORT, seed=1)
    assert request.body == {**request.body, **asked}
    assert request.body["stream"] is True


def test_a_trace_becomes_a_plan_with_its_moments(tmp_path: Path) -> None:
    calls = read_trace(written(tmp_path, "t.csv", "at", "0.25", "3"), SHORT, seed=1)
    plan = replayed("http://127.0.0.1:1", calls, driver="http2")
    assert [shot.due for (shots) in plan.shots() for shot in shots] == [0.25, 3]
    assert plan.driver == "http2"


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("t.csv", ["at", "1", "0.5"], r"t\.csv:3: at 0.5 is before 1.0; allowed: in order"),
        ("t.csv", ["at,size", "1,2"], r"t\.csv:2: field 'size'; allowed: at, words"),
        ("t.csv", ["words", "3"], r"t\.csv:2: no field 'at'"),
        ("t.csv", ["at", "soon"], r"t\.csv:2: at 'soon'; allowed: a number, zero or more"),
        ("t.csv", ["at", "-1"], r"t\.csv:2: at '-1'; allowed"),
        ("t.csv", ["at", "nan"], r"t\.csv:2: at 'nan'; allowed"),
        ("t.csv", ["at,words", "1,2.5"], r"t\.csv:2: words '2.5'; allowed: a whole number"),
        ("t.csv", ["at,words", "1,0"], r"t\.csv:2: .*words 0-0; allowed: 1 or more"),
        ("t.csv", ["at,leave_tokens", "1,0"], r"t\.csv:2: leave_after: tokens 0; allowed"),
        ("t.csv", ["at", "1,2"], r"t\.csv:2: field None; allowed"),
        ("t.csv", ["at"], r"t\.csv: no request in it"),
        ("t.jsonl", ['{"at": 0}', "{"], r"t\.jsonl:2: not JSON"),
        ("t.jsonl", ["[1]"], r"t\.jsonl:1: \[1\]; allowed: an object"),
        ("t.jsonl", ['{"at": true}'], r"t\.jsonl:1: at True; allowed"),
        ("t.jsonl", ['{"at": 1, "words": 2.5}'], r"t\.jsonl:1: words 2.5; allowed"),
        ("t.jsonl", ['{"at": 1, "body": 3}'], r"t\.jsonl:1: body 3; allowed: an object"),
        ("t.jsonl", ['{"at": 1, "kind": 3}'], r"t\.jsonl:1: kind 3; allowed: a name"),
        ("t.txt", ["1"], r"t\.txt: suffix '\.txt'; allowed: \.csv, \.jsonl"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_file_and_line(
    tmp_path: Path, name: str, lines: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_trace(written(tmp_path, name, *lines), SHORT, seed=1)
