"""Reports of other suites: every test passed at once, and none of the last time is gone."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from gate_builders import (
    CREATED,
    NOW,
    SUBJECT,
    attempts,
    evidence,
    healthy,
    policy,
    request,
    row,
)

from gates.completeness import passed
from gates.criteria import Outcome
from gates.earlier import EARLIER_FILE, earlier_text, read_earlier, text_for_next
from gates.evidence import EVIDENCE_DIR, VERDICT_FILE, EvidenceError, Measurement
from gates.judge import judge
from gates.junit import read_report
from gates.stages import Policy
from gates.verdict import Decision, Verdict, write_verdict

FINE = '<testcase classname="A" name="{}"/>'
FAILED = '<testcase classname="A" name="{}"><failure message="boom\nat 3"/></testcase>'
SKIPPED = '<testcase classname="A" name="{}"><skipped/></testcase>'
FLAKY = '<testcase classname="A" name="{}"><flakyFailure message="once"/></testcase>'


def report(
    path: Path,
    cases: Iterable[str],
    *,
    commit: str | None = SUBJECT.commit,
    created: str = CREATED,
    counts: str = "",
) -> tuple[Measurement, ...]:
    stated = f'<property name="phase5.commit" value="{commit}"/>' if commit is not None else ""
    text = (
        f'<testsuites><testsuite name="api" timestamp="{created}" {counts}>'
        f"<properties>{stated}</properties>{''.join(cases)}</testsuite></testsuites>"
    )
    path.write_text(text, encoding="utf-8")
    return (read_report(path),)


def demanding(*names: str) -> Policy:
    canary = replace(policy().stages["canary"], enter=names)
    return replace(policy(), stages={**policy().stages, "canary": canary})


def judged(
    measured: tuple[Measurement, ...], earlier: Iterable[str] = (), rules: Policy | None = None
) -> Verdict:
    """A door that asks for the other suites alone."""
    whole = evidence(measured, attempts=attempts(healthy()), earlier=frozenset(earlier))
    return judge(rules or demanding("regression_green"), whole, request())


def outcome(measured: tuple[Measurement, ...], earlier: Iterable[str] = ()) -> tuple[Outcome, str]:
    found = row(judged(measured, earlier), "regression_green")
    return found.outcome, found.reason


def test_a_green_report_of_this_build_passes(tmp_path: Path) -> None:
    measured = report(tmp_path / "a.xml", [FINE.format("x"), FINE.format("y")])
    verdict = judged(measured)
    assert verdict.verdict is Decision.PROMOTE
    found = row(verdict, "regression_green")
    assert found.reason == "regression_green 0 = 0 checks broken (n=2, junit::api)"


@pytest.mark.parametrize(
    ("cases", "expected", "words"),
    [
        ([FAILED], Outcome.FAIL, "api::A::t0 (boom at 3)"),
        ([FINE, FAILED], Outcome.FAIL, "1 > 0 checks broken (n=2, junit::api)"),
        ([FINE, FLAKY], Outcome.FAIL, "api::A::t1"),
        ([SKIPPED, SKIPPED], Outcome.NO_DATA, "junit::api: empty, or every test skipped"),
        ([], Outcome.NO_DATA, "junit::api: empty, or every test skipped"),
        ([FINE, SKIPPED], Outcome.PASS, "n=1"),
    ],
    ids=["failed", "one failed", "flaky", "all skipped", "empty", "one skipped"],
)
def test_only_tests_that_ran_and_passed_at_once_count(
    tmp_path: Path, cases: list[str], expected: Outcome, words: str
) -> None:
    rows = [case.format(f"t{n}") for n, case in enumerate(cases)]
    found, reason = outcome(report(tmp_path / "a.xml", rows))
    assert found is expected
    assert words in reason


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"commit": "other"}, "is about commit 'other', the subject is 'c0ffee'"),
        ({"commit": None}, "is about commit ''"),
        ({"created": (NOW - timedelta(days=2)).isoformat()}, "stale"),
        ({"created": (NOW + timedelta(days=2)).isoformat()}, "from the future"),
        ({"created": "2026-03-01T11:00:00"}, "no time with a zone"),
        ({"created": ""}, "no time with a zone"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_report_of_another_build_or_time_is_invalid(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    found, reason = outcome(report(tmp_path / "a.xml", [FINE.format("x")], **changes))
    assert found is Outcome.INVALID
    assert words in reason


def test_no_report_is_no_data() -> None:
    found, reason = outcome(())
    assert found is Outcome.NO_DATA
    assert "no item was planned for it" in reason


def test_the_same_report_twice_is_invalid(tmp_path: Path) -> None:
    measured = report(tmp_path / "a.xml", [FINE.format("x")])
    found, reason = outcome((*measured, *measured))
    assert found is Outcome.INVALID
    assert "is there twice" in reason


def test_a_build_that_does_not_say_its_commit_takes_no_report(tmp_path: Path) -> None:
    measured = report(tmp_path / "a.xml", [FINE.format("x")], commit="unknown")
    whole = evidence(measured, attempts=attempts(healthy()))
    asked = request(subject=replace(SUBJECT, commit="unknown"))
    verdict = judge(demanding("regression_green"), whole, asked)
    assert row(verdict, "regression_green").outcome is Outcome.INVALID


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<testsuites>",
        "<html/>",
        '<testsuites><testsuite name="a" tests="2"><testcase name="x"/></testsuite></testsuites>',
        '<testsuite name="a" tests="1" failures="1"><testcase name="x"/></testsuite>',
        '<testsuites><testsuite name="a" tests="many"/></testsuites>',
    ],
    ids=["empty", "torn", "other", "fewer tests", "failures gone", "no count"],
)
def test_a_report_that_is_not_whole_is_no_evidence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EvidenceError, match=r"^a\.xml: "):
        read_report(path)


def test_suites_inside_suites_are_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(
        '<testsuite name="outer"><testsuite name="inner"><testcase name="x"/></testsuite>'
        '<testcase name="y"/></testsuite>',
        encoding="utf-8",
    )
    assert passed([read_report(path)]) == {"outer::y", "outer::x"}


def test_suites_of_two_builds_are_of_none_and_as_old_as_the_oldest(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    suite = (
        '<testsuite name="{0}" timestamp="{1}"><properties><property name="phase5.commit" '
        'value="{2}"/></properties><testcase name="x"/></testsuite>'
    )
    old = suite.format("old", "2026-01-01T00:00:00+02:00", "aaa")
    new = suite.format("new", "2026-01-01T00:00:00+00:00", "bbb")
    path.write_text(f"<testsuites>{new}{old}</testsuites>", encoding="utf-8")
    found = read_report(path)
    assert (found.commit, found.created) == ("aaa, bbb", "2026-01-01T00:00:00+02:00")


def test_a_test_that_vanished_or_is_skipped_now_holds(tmp_path: Path) -> None:
    measured = report(tmp_path / "a.xml", [FINE.format("x"), SKIPPED.format("y")])
    found, reason = outcome(measured, ["api::A::x", "api::A::y", "api::A::z"])
    assert found is Outcome.NO_DATA
    assert "passed at the last verdict and did not now: api::A::y, api::A::z" in reason
    assert outcome(measured, ["api::A::x"])[0] is Outcome.PASS


def test_a_test_that_was_retired_may_vanish(tmp_path: Path) -> None:
    measured = report(tmp_path / "a.xml", [FINE.format("x")])
    rules = replace(demanding("regression_green"), retired_tests=("api::A::z",))
    assert judged(measured, ["api::A::x", "api::A::z"], rules).verdict is Decision.PROMOTE


def left_behind(folder: Path, cases: Iterable[str], earlier: Iterable[str] = ()) -> Path:
    """A report folder with its verdict, as the next session finds it."""
    (folder / EVIDENCE_DIR).mkdir(parents=True)
    measured = report(folder / EVIDENCE_DIR / "given-a.xml", cases)
    write_verdict(folder / VERDICT_FILE, judged(measured, earlier))
    if earlier:
        (folder / EARLIER_FILE).write_text(earlier_text(earlier), encoding="utf-8")
    return folder


def following(folder: Path) -> frozenset[str]:
    path = folder / "next.json"
    path.write_text(text_for_next(folder, policy()) or earlier_text(()), encoding="utf-8")
    return read_earlier(path)


def test_a_green_verdict_is_the_measure_of_the_next(tmp_path: Path) -> None:
    folder = left_behind(tmp_path / "r", [FINE.format("x")])
    assert following(folder) == {"api::A::x"}


def test_a_vanished_test_stays_missing_however_often_one_judges(tmp_path: Path) -> None:
    folder = left_behind(tmp_path / "r", [FINE.format("x")], ["api::A::x", "api::A::gone"])
    assert following(folder) == {"api::A::x", "api::A::gone"}


def test_a_verdict_that_is_not_there_settles_nothing(tmp_path: Path) -> None:
    folder = left_behind(tmp_path / "r", [FINE.format("x")], ["api::A::gone"])
    (folder / VERDICT_FILE).unlink()
    assert following(folder) == {"api::A::x", "api::A::gone"}


def test_a_list_that_cannot_be_read_is_handed_on_as_it_is(tmp_path: Path) -> None:
    folder = left_behind(tmp_path / "r", [FINE.format("x")])
    (folder / EARLIER_FILE).write_text("{torn", encoding="utf-8")
    assert text_for_next(folder, policy()) == "{torn"
    with pytest.raises(EvidenceError, match=r"earlier\.json: not readable"):
        read_earlier(folder / EARLIER_FILE)


def test_an_empty_folder_leaves_nothing_to_go_by(tmp_path: Path) -> None:
    assert text_for_next(tmp_path, policy()) is None
