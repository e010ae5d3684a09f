"""From a verdict back to the lines of the files that it rests on."""

import io
import json
import linecache
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gate_builders import answers, healthy, measurement, sample, swapped
from kind_builders import survived
from rich.console import Console
from test_report_folder import fill

from engine.config import packaged
from gates.cli import judge_folder
from gates.evidence import Check, Measurement
from gates.explain import notable
from gates.explain_cli import demand_of, explain, show
from gates.policy import load_policy
from gates.verdict import from_json

POLICY = load_policy().criteria


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gate with 12 failed requests of 3,000, judged."""
    report = tmp_path_factory.mktemp("report") / "phase5-report"
    fill(report, swapped(healthy(), answers(failed=12)))
    assert judge_folder(report) == 20
    return report


def document(folder: Path, criterion: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert explain(criterion, folder, as_json=True) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_chain_leads_from_the_verdict_to_the_samples(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = document(folder, "error_rate", capsys)
    verdict = from_json((folder / "verdict.json").read_text(encoding="utf-8"))
    (row,) = [row for row in verdict.criteria if row.id == "error_rate"]
    assert (told["outcome"], told["reason"]) == ("fail", row.reason)
    assert told["judged_as_of"] == verdict.created
    assert set(told["required_by"].values()) == {"off to canary"}
    assert told["demand"]["text"] == "limit: 0.1 %"
    assert told["demand"]["reason"] == "the requirements' rollback limit"
    (finding,) = told["findings"]
    assert (finding["estimate"], finding["n"]) == (0.004, 3_000)
    (file,) = told["evidence"]
    assert file["counts"] == {"treatment failed": 12, "treatment ok": 2_988}
    assert (len(file["lines"]), file["more_lines"]) == (5, 7)
    path = folder / file["file"]
    for line in file["lines"]:
        assert '"outcome":"failed"' in linecache.getline(str(path), line["line"])
    assert [f.sha256 for f in verdict.evidence if f.file == file["file"]] == [file["sha256"]]


def test_a_criterion_that_passed_names_every_group(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = document(folder, "flag_sets_start", capsys)
    assert told["outcome"] == "pass"
    assert len(told["findings"]) == len(told["evidence"]) == len(told["items"]) == 16
    assert all(item["passed"] for item in told["items"])


def test_a_criterion_that_no_door_asks_for_is_explained_all_the_same(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = document(folder, "ttft_p95_ms", capsys)
    assert (told["outcome"], told["required_by"], told["evidence"]) == ("no_data", {}, [])
    assert told["stretch"] == "no_data"


def test_an_empty_folder_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = document(tmp_path, "error_rate", capsys)
    assert told["outcome"] == "invalid"
    assert "attempts.jsonl: not readable" in told["reason"]


def test_an_unknown_criterion_is_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("speed", tmp_path) == 2
    assert "unknown criterion 'speed'; allowed: flag_sets_start" in capsys.readouterr().err


@pytest.mark.parametrize("terminal", [True, False])
def test_people_see_the_same_chain(
    folder: Path, terminal: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    told = document(folder, "error_rate", capsys)
    out = io.StringIO()
    show(told, Console(file=out, force_terminal=terminal, width=1_000))
    text = out.getvalue()
    for words in (
        "error_rate 0.4 % > 0.1 %",
        "limit: 0.1 %: the requirements' rollback limit",
        "suite::test_answers",
        "and 7 more",
    ):
        assert words in text
    assert ("\x1b[" in text) is terminal
    assert explain("error_rate", folder) == 0
    assert "error_rate 0.4 % > 0.1 %" in capsys.readouterr().out


def test_every_number_of_the_packaged_policy_has_its_reason() -> None:
    for name, criterion in POLICY.items():
        if criterion.limit is not None or criterion.margin is not None:
            demand = demand_of(packaged("gates.yaml"), name)
            assert demand.reason, demand
            assert demand.text.startswith(("limit:", "margin:"))


@pytest.mark.parametrize(
    ("criterion", "measured", "expected"),
    [
        (
            "ttft_p95_ms",
            measurement(
                "t", [], samples=(sample(0, "all"), sample(1, "all", first_token=2.0, end=3.0))
            ),
            [(3, "request 1, treatment: 1000 ms")],
        ),
        (
            "no_lost_stream",
            replace(answers(3, cut=1), checks=(Check(name="even", ok=False, detail="1 off"),)),
            [(2, "request 0, treatment: cut"), (5, "check 'even' broken: 1 off")],
        ),
        (
            "chaos_recovery",
            survived(),
            [
                (2 + n, f"experiment {name}: pass")
                for n, name in enumerate(POLICY["chaos_recovery"].experiments)
            ],
        ),
    ],
    ids=["slow", "cut", "chaos"],
)
def test_lines_that_decide_are_named(
    criterion: str, measured: Measurement, expected: list[tuple[int, str]]
) -> None:
    assert list(notable(POLICY[criterion], measured)) == expected
