"""Evidence of other runs: counted where a criterion takes it, from the same build and machine."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from gate_builders import (
    NOW,
    SUBJECT,
    attempts,
    engine,
    evidence,
    healthy,
    measurement,
    phases,
    planned,
    policy,
    request,
    row,
    sample,
)

from gates.attempts import Attempt, append_attempt
from gates.criteria import Outcome
from gates.evidence import ATTEMPTS_FILE, EVIDENCE_DIR, LOAD_ITEM, Measurement, write_measurement
from gates.folder import machine_of, subject_of
from gates.judge import Evidence, judge
from gates.reader import ATTEMPTS_SUFFIX, read_folder
from gates.stages import Policy
from gates.verdict import Decision, Verdict
from pytest_phase5.given import take

NIGHTLY = "nightly-run"
MACHINE = "linux-x86_64-2cpu"
ITEM = "night::test_first_token"


def quick(item: str = f"{LOAD_ITEM}ttft", **changes: Any) -> Measurement:
    """A run of every flag whose first tokens came after 50 ms."""
    samples = tuple(sample(i, "all") for i in range(400))
    fine = measurement(item, ["ttft_p95_ms"], samples=samples, run=NIGHTLY, id="night")
    return replace(fine, **changes)


def demanding(name: str = "ttft_p95_ms", **changes: Any) -> Policy:
    criterion = replace(policy().criteria[name], **changes)
    canary = replace(policy().stages["canary"], enter=(name,))
    return replace(
        policy(),
        criteria={**policy().criteria, name: criterion},
        stages={**policy().stages, "canary": canary},
    )


def judged(whole: Evidence, rules: Policy | None = None, machine: str = MACHINE) -> Verdict:
    return judge(rules or demanding(), whole, request(environment={"machine": machine}))


def given(*measured: Measurement, **changes: Any) -> Evidence:
    """A session of its own, and these measurements beside it."""
    return evidence(measured, attempts=attempts(healthy()), **changes)


def rows_of(*more: Attempt, call: str = "passed") -> tuple[Attempt, ...]:
    """The attempts of the nightly session."""
    own = attempts((), [planned(ITEM, "ttft_p95_ms"), *phases(ITEM, call=call), *more])
    return tuple(replace(attempt, run=NIGHTLY) for attempt in own)


def outcome(verdict: Verdict) -> tuple[Outcome, str]:
    found = row(verdict, "ttft_p95_ms")
    return found.outcome, found.reason


def test_a_load_run_of_this_build_on_this_machine_counts() -> None:
    assert judged(given(quick())).verdict is Decision.PROMOTE


def test_an_item_of_another_session_that_passed_there_counts() -> None:
    whole = given(quick(ITEM), others=(rows_of(),))
    assert judged(whole).verdict is Decision.PROMOTE


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"machine": "darwin-arm64-12cpu"}, "on machine 'darwin-arm64-12cpu', not on 'linux"),
        ({"valid": False, "invalid_reason": "late"}, "late"),
        ({"created": (NOW - timedelta(days=2)).isoformat()}, "stale"),
        ({"arms": {"treatment": engine("all", commit="other")}}, "had commit 'other'"),
        ({"arms": {"treatment": engine("all", config_sha256="x")}}, "had config_sha256 'x'"),
        ({"arms": {"treatment": engine("all", model_sha256="x")}}, "had model_sha256 'x'"),
        ({"arms": {"treatment": engine("all", engine_version="9")}}, "had engine_version '9'"),
        ({"item": ITEM}, "of run 'nightly-run', whose attempts are not here"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_comes_from_elsewhere_must_be_of_the_same_kind(
    changes: dict[str, Any], words: str
) -> None:
    found, reason = outcome(judged(given(quick(**changes))))
    assert found is Outcome.INVALID
    assert words in reason


def test_a_criterion_must_take_evidence_from_elsewhere() -> None:
    verdict = judged(given(quick()), demanding(elsewhere=False))
    found, reason = outcome(verdict)
    assert found is Outcome.INVALID
    assert "ttft_p95_ms takes no evidence from elsewhere" in reason


def test_a_session_that_does_not_know_its_machine_takes_nothing() -> None:
    assert outcome(judged(given(quick()), machine=""))[0] is Outcome.INVALID


@pytest.mark.parametrize(
    "rows",
    [
        rows_of(call="failed"),
        rows_of(call="xfailed"),
        rows_of(*(replace(p, run=NIGHTLY) for p in phases(ITEM, attempt=2))),
        rows_of()[:-1],
        tuple(r for r in rows_of() if r.kind != "planned"),
    ],
    ids=["failed", "xfailed", "rerun", "killed", "not planned"],
)
def test_an_item_that_did_not_pass_where_it_ran_does_not_count(rows: tuple[Attempt, ...]) -> None:
    assert outcome(judged(given(quick(ITEM), others=(rows,))))[0] is Outcome.INVALID


def test_evidence_from_elsewhere_takes_nothing_from_a_planned_item_that_failed() -> None:
    own = attempts((), [planned("mine", "ttft_p95_ms"), *phases("mine", call="failed")])
    verdict = judged(replace(given(quick()), attempts=own))
    assert outcome(verdict)[0] is Outcome.NO_DATA


def test_the_subject_is_what_the_session_itself_measured() -> None:
    """An older guest of another build must not turn the host into the stranger."""
    from engine.config import load_config, packaged

    config = load_config(packaged("runtime.yaml"))
    old = quick(
        created="2026-01-01T00:00:00+00:00",
        machine="other",
        arms={"treatment": engine("all", commit="old")},
    )
    own = healthy()
    subject = subject_of((old, *own), config, ["ttft_pipeline"], own[0].run)
    assert subject.commit == SUBJECT.commit
    assert machine_of((old, *own), own[0].run) == MACHINE
    assert machine_of((old,), own[0].run) == ""


def test_a_given_report_folder_brings_its_attempts_with_it(tmp_path: Path) -> None:
    night = tmp_path / "night"
    write_measurement(night / EVIDENCE_DIR, quick(ITEM))
    for attempt in rows_of():
        append_attempt(night / ATTEMPTS_FILE, attempt)
    report = tmp_path / "report"
    for attempt in attempts(healthy()):
        report.mkdir(exist_ok=True)
        append_attempt(report / ATTEMPTS_FILE, attempt)
    take(night, report / EVIDENCE_DIR)
    whole = read_folder(report)
    assert whole.problems == ()
    assert whole.measurements == (quick(ITEM),)
    assert whole.others == (rows_of(),)
    assert judged(whole).verdict is Decision.PROMOTE


@pytest.mark.parametrize("name", ["nowhere", "nowhere.xml", "empty"])
def test_a_given_path_without_evidence_is_a_problem(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    take(tmp_path / name, tmp_path / "report" / EVIDENCE_DIR)
    assert len(read_folder(tmp_path / "report").problems) == 2  # the attempts are missing as well


def test_a_folder_of_files_is_taken_file_by_file(tmp_path: Path) -> None:
    write_measurement(tmp_path / "loose", quick())
    (tmp_path / "loose" / "notes.txt").write_text("not evidence")
    take(tmp_path / "loose", tmp_path / "report" / EVIDENCE_DIR)
    (copy,) = (tmp_path / "report" / EVIDENCE_DIR).iterdir()
    assert not copy.name.endswith(ATTEMPTS_SUFFIX)
    assert read_folder(tmp_path / "report").measurements == (quick(),)
