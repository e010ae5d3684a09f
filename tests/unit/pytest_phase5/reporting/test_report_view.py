"""What a report says of a verdict, of a folder, and of what is not there."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gates.criteria import Outcome
from gates.evidence import EngineIdentity, Measurement, write_measurement
from gates.journal import ChaosVerdict, Journal
from gates.judge import Evidence
from gates.policy import load_policy
from gates.samples import Outcome as Ended
from gates.samples import Sample
from gates.verdict import CriterionRow, Decision, Subject, Verdict, to_json
from pytest_phase5.cli import app
from pytest_phase5.reporting.drawings import forest
from pytest_phase5.reporting.headline import headline
from pytest_phase5.reporting.markdown import markdown
from pytest_phase5.reporting.page import page
from pytest_phase5.reporting.reading import Gathered
from pytest_phase5.reporting.view import Mark, view_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENGINE = EngineIdentity(
    flag_set="all",
    model="tiny",
    model_sha256="aa",
    engine_version="0.1.0",
    commit="c0ffee",
    config_sha256="cf",
)


def row(**changes: Any) -> CriterionRow:
    fine = CriterionRow(
        id="error_rate",
        outcome=Outcome.PASS,
        reason="error_rate 0 % <= 0.1 %",
        estimate=0.0,
        interval=(0.0, 0.00093),
        limit=0.001,
        n=3200,
    )
    return replace(fine, **changes)


def verdict(decision: str = "promote", *rows: CriterionRow, **changes: Any) -> Verdict:
    fine = Verdict(
        verdict=Decision(decision),
        transition={"each": {"ttft_pipeline": {"from": "off", "to": "canary"}}},
        criteria=rows or (row(),),
        flags={"ttft_pipeline": Decision(decision)},
        subject=Subject(commit="c0ffee", config_sha256="cf", engine_version="0.1.0"),
        evidence=(),
        created=NOW.isoformat(),
        expires=(NOW + timedelta(hours=1)).isoformat(),
        environment={"machine": "linux"},
        dry_run=False,
    )
    return replace(fine, **changes)


BROKEN = row(outcome=Outcome.FAIL, reason="error_rate 2 % > 0.1 %", estimate=0.02)


@pytest.mark.parametrize(
    ("given_verdict", "command"),
    [
        (verdict(), "phase5 promote --flag ttft_pipeline --verdict 'a folder/verdict.json'"),
        (verdict("rollback", BROKEN), "phase5 rollback --flag ttft_pipeline"),
        (verdict("hold", BROKEN), "phase5 gate explain error_rate 'a folder'"),
        (
            verdict(dry_run=True),
            "python -m pytest --phase5-gate=canary --phase5-report='a folder'",
        ),
    ],
    ids=["promote", "rollback", "hold", "dry run"],
)
def test_the_next_command_is_the_one_that_the_verdict_allows(
    given_verdict: Verdict, command: str
) -> None:
    assert headline(given_verdict, "a folder", now=NOW).commands == (command,)


def test_what_makes_a_verdict_worthless_is_said_before_all_else() -> None:
    late = NOW + timedelta(hours=2)
    head = headline(verdict(dry_run=True), "f", now=late, differences=("n: 3 is not 4",))
    assert [text.split(":")[0] for text in head.warnings] == [
        "Differs from its evidence",
        "Expired at 2026-03-01T13",
        "Dry run",
    ]
    assert not any("promote" in command for command in head.commands)
    assert headline(verdict(), "f", now=NOW).warnings == ()


def test_a_rollback_is_still_told_when_its_verdict_has_expired() -> None:
    head = headline(verdict("rollback", BROKEN), "f", now=NOW + timedelta(days=1))
    assert head.commands == ("phase5 rollback --flag ttft_pipeline",)
    assert head.reasons == ("error_rate 2 % > 0.1 %",)


class Words(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.words += data


def shown(given_verdict: Verdict | None, **changes: Any) -> str:
    criteria = tuple(load_policy().criteria.values())
    found = Gathered(folder="f", evidence=Evidence(), verdict=given_verdict, criteria=criteria)
    return page(view_of(replace(found, **changes), NOW))


PLAIN = Words(shown(verdict())).tags


@given(st.text(max_size=80), st.sampled_from(["<script>alert(1)</script>", "]]>", "&lt;", "'\"`"]))
def test_no_text_from_outside_becomes_markup(text: str, evil: str) -> None:
    nasty = f"{evil}{text}"
    given_verdict = verdict(
        "promote", row(id=nasty, reason=nasty), environment={"machine": nasty, nasty: "x"}
    )
    tags = Words(shown(given_verdict)).tags
    assert "script" not in tags
    assert tags.count("tbody") == PLAIN.count("tbody")
    (line,) = [line for line in markdown(headline(given_verdict, "f")) if "3200" in line]
    assert "<" not in line


numbers = st.none() | st.floats(allow_nan=True, allow_infinity=True)


@given(numbers, numbers, numbers, numbers, st.sampled_from([None, True, False]))
def test_no_number_is_too_absurd_to_be_shown(
    estimate: float | None,
    low: float | None,
    high: float | None,
    limit: float | None,
    higher: bool | None,
) -> None:
    given_verdict = verdict(
        "hold", row(estimate=estimate, interval=(low, high), limit=limit, outcome=Outcome.INVALID)
    )
    text = shown(given_verdict)
    assert "nan" not in Words(text).words
    finite = [v if v is not None and math.isfinite(v) else None for v in (estimate, low, high)]
    drawn = forest(
        Mark(
            estimate=finite[0],
            low=finite[1],
            high=finite[2],
            limit=limit if limit is not None and math.isfinite(limit) else None,
            higher=higher,
        ),
        "x",
    )
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_what_is_missing_is_said() -> None:
    text = shown(None, problem="There is no verdict.json in this folder.")
    for words in (
        "no verdict",
        "There is no verdict.json in this folder.",
        "phase5 gate judge f",
        "No flag was judged.",
        "No criterion was judged.",
        "No group was measured.",
        "No request with a time in this folder.",
        "No chaos experiment in this folder.",
        "No ledger of live traffic in this folder.",
        "No evidence file stands behind this.",
        "There is no verdict to verify.",
    ):
        assert words in text


def measured(**changes: Any) -> Measurement:
    samples = tuple(
        Sample(
            index=i,
            arm="treatment",
            block=0,
            scheduled=float(i),
            sent=float(i),
            first_token=i + 0.1 * (i + 1),
            end=i + 0.2 * (i + 1),
            outcome=Ended.OK if i else Ended.FAILED,
            error=None if i else "secret words of a prompt",
            flags="all",
        )
        for i in range(10)
    )
    fine = Measurement(
        run="r",
        item="suite::test_answers",
        attempt=1,
        criteria=("error_rate",),
        arms={"treatment": ENGINE},
        machine="linux",
        created=NOW.isoformat(),
        samples=samples,
        id="m",
    )
    return replace(fine, **changes)


def test_a_request_without_an_answer_has_no_time_and_is_counted() -> None:
    view = view_of(Gathered(folder="f", evidence=Evidence(measurements=(measured(),))), NOW)
    (arm,) = view.distributions[0].arms
    assert (len(arm.values), arm.without) == (9, 1)
    assert arm.quantiles == ("600", "1000", "1000")
    assert (view.timeline.growth[-1].n, view.timeline.growth[-1].bad) == (10, 1)


def test_the_words_of_an_error_stay_out_of_the_page() -> None:
    assert "secret" not in shown(verdict(), evidence=Evidence(measurements=(measured(),)))


JOURNAL = Journal(
    experiment="runtime-kill",
    steady_before=True,
    steady_after=True,
    proven=True,
    lost_streams=0,
    verdict=ChaosVerdict.PASS,
    recovery_seconds=1.5,
    measured={"seen": 1},
)
WHOLE = {
    "schema": "phase5.chaos/1",
    "experiment": "runtime-kill",
    "title": "a kill",
    "started": NOW.isoformat(),
    "fault": {"measured": {"seen": 1}},
    "seconds": {"recovery": 1.5},
    "timeline": [{"at": 2.0, "what": "injected"}, {"at": 2.5, "what": "healed"}],
}


def test_faults_and_recovery_stand_on_the_timeline_once_their_journal_is_there() -> None:
    evidence = Evidence(measurements=(measured(samples=(), journals=(JOURNAL,)),))
    without = view_of(Gathered(folder="f", evidence=evidence), NOW).timeline
    assert "No chaos journal of runtime-kill in this folder: its times are not known." in (
        without.missing
    )
    line = view_of(Gathered(folder="f", evidence=evidence, chaos=(WHOLE,)), NOW).timeline
    assert [(s.lane, s.begin, s.end) for s in line.spans] == [
        ("fault", 0.0, 0.5),
        ("recovery", 0.5, 2.0),
    ]


def report(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["report", *arguments])


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    result = report(str(tmp_path / "none"))
    assert result.exit_code == 2
    assert "no such folder" in result.output


@pytest.mark.parametrize("text", [None, "{", '{"schema": "phase5.verdict/1"}', "\0"])
def test_a_folder_without_a_verdict_gets_a_report_that_says_so(
    tmp_path: Path, text: str | None
) -> None:
    if text is not None:
        (tmp_path / "verdict.json").write_text(text)
    result = report(str(tmp_path), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["verdict"] == "no verdict"
    assert "no verdict" in (tmp_path / "report.html").read_text()
    assert "no verdict" in (tmp_path / "summary.md").read_text()


def test_a_verdict_that_its_evidence_does_not_bear_out_is_called_that(tmp_path: Path) -> None:
    write_measurement(tmp_path / "evidence", measured())
    policy = load_policy()
    subject = replace(verdict().subject, policy_sha256=policy.digest())
    (tmp_path / "verdict.json").write_text(to_json(verdict(subject=subject)))
    result = report(str(tmp_path))
    assert result.exit_code == 0
    assert "Differs from its evidence: do not act on it." in result.output
    assert f"next: phase5 gate judge {tmp_path}" in result.output


def test_another_policy_is_named(tmp_path: Path) -> None:
    (tmp_path / "verdict.json").write_text(to_json(verdict()))
    assert "name its configuration with --config" in report(str(tmp_path)).output


def test_a_journal_of_an_earlier_session_is_left_out(tmp_path: Path) -> None:
    write_measurement(tmp_path / "evidence", measured(samples=(), journals=(JOURNAL,)))
    stale = {**WHOLE, "fault": {"measured": {"seen": 2}}, "title": "of yesterday"}
    for number, journal in enumerate((stale, WHOLE)):
        folder = tmp_path / "logs" / "chaos" / f"runtime-kill-{number}"
        folder.mkdir(parents=True)
        (folder / "journal.json").write_text(json.dumps(journal))
    report(str(tmp_path))
    text = (tmp_path / "report.html").read_text()
    assert "a kill" in text
    assert "of yesterday" not in text
