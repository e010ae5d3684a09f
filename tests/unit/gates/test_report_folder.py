"""A report folder from end to end: written, read, judged, verified, and tampered with."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from gate_builders import TIMING, answers, attempts, head, healthy, policy, swapped
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import packaged
from gates.attempts import Attempt, append_attempt, read_attempts
from gates.cli import judge_folder, verify
from gates.evidence import Check, EvidenceError, Measurement, read_measurement, write_measurement
from gates.reader import read_folder
from gates.recompute import recompute
from gates.verdict import from_json

Change = Callable[[Path], None]


def fill(folder: Path, measurements: tuple[Measurement, ...], **head_changes: str) -> Path:
    """What a gated session leaves behind, measured just now."""
    now = datetime.now(UTC).isoformat()
    folder.mkdir(exist_ok=True)
    for row in attempts(measurements, **head_changes):
        append_attempt(folder / "attempts.jsonl", row)
    for measured in measurements:
        write_measurement(folder / "evidence", replace(measured, created=now))
    return folder


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A healthy folder with its verdict. Tests that change something work on a copy."""
    folder = fill(tmp_path_factory.mktemp("report") / "phase5-report", healthy())
    assert judge_folder(folder) == 0
    return folder


@pytest.fixture
def copy(judged: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(judged, tmp_path / "copy"))


def first_evidence(folder: Path) -> Path:
    return min((folder / "evidence").iterdir())


def timing(folder: Path) -> Path:
    return next(p for p in (folder / "evidence").iterdir() if TIMING in p.read_text("utf-8"))


def test_a_folder_comes_back_as_it_was_written(judged: Path) -> None:
    evidence = read_folder(judged)
    assert evidence.problems == ()
    assert len(evidence.measurements) == len(healthy())
    assert {file.file.split("/")[0] for file in evidence.files} == {"attempts.jsonl", "evidence"}
    assert evidence.attempts[0] == head()


def test_a_verdict_is_verified_from_its_evidence(
    judged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(judged / "verdict.json", as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["verified"], said["verdict"], said["differences"]) == (True, "promote", [])


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('"n": 3000', '"n": 9000', "criteria.1.n: the verdict says 9000, the evidence 3000"),
        ('"dry_run": false', '"dry_run": true', None),
        ('"commit": "c0ffee"', '"commit": "feed"', "criteria"),
        ('"outcome": "pass"', '"outcome": "fail"', "criteria.0.outcome: the verdict says 'fail'"),
        ('"verdict": "promote"', '"verdict": "hold"', "verdict: the verdict says 'hold'"),
        ('"rows": ', '"rows": 1', "evidence.0.rows"),
    ],
)
def test_a_verdict_that_was_edited_is_refused(
    copy: Path, old: str, new: str, where: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(copy / "verdict.json", old, new)
    status = verify(copy / "verdict.json")
    out = capsys.readouterr().out
    if where is None:  # whoever calls it a dry run only gives something up
        assert (status, "verified: promote, dry run" in out) == (0, True)
    else:
        assert status == 1
        assert where in out


def test_a_dry_run_cannot_be_edited_into_a_real_one(tmp_path: Path) -> None:
    folder = fill(tmp_path / "dry", healthy(), origin="off")
    assert judge_folder(folder) == 0
    edit(folder / "verdict.json", '"dry_run": true', '"dry_run": false')
    assert verify(folder / "verdict.json") == 1


def tear(path: Path) -> None:
    path.write_text(path.read_text("utf-8")[:-20], encoding="utf-8")


def alter(folder: Path) -> None:
    edit(timing(folder), '"outcome":"ok"', '"outcome":"shed"')


def lose_attempts(folder: Path) -> None:
    (folder / "attempts.jsonl").unlink()


def empty_attempts(folder: Path) -> None:
    (folder / "attempts.jsonl").write_text("", encoding="utf-8")


def garbage(folder: Path) -> None:
    (folder / "evidence" / "x.jsonl").write_bytes(b"\xff\xfe{}")


def leave_partial(folder: Path) -> None:
    (folder / "evidence" / "x.partial").write_text("{}", encoding="utf-8")


def leave_folder(folder: Path) -> None:
    (folder / "evidence" / "x.jsonl").mkdir()


def double(folder: Path) -> None:
    shutil.copy(timing(folder), folder / "evidence" / "again.jsonl")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: tear(first_evidence(folder)),
        lambda folder: tear(folder / "attempts.jsonl"),
        lambda folder: timing(folder).unlink(),
        lambda folder: shutil.rmtree(folder / "evidence"),
        alter,
        lose_attempts,
        empty_attempts,
        garbage,
        leave_partial,
        leave_folder,
        double,
    ],
)
def test_spoilt_evidence_holds_and_is_not_verified(copy: Path, spoil: Change) -> None:
    spoil(copy)
    assert verify(copy / "verdict.json") == 1
    assert judge_folder(copy) == 10
    assert verify(copy / "verdict.json") == 0
    (copy / "verdict.json").unlink()
    assert judge_folder(copy) == 10


@pytest.mark.parametrize("spoil", [lose_attempts, garbage, leave_folder])
def test_a_folder_that_was_moved_verifies_as_before(
    copy: Path, tmp_path: Path, spoil: Change
) -> None:
    spoil(copy)
    assert judge_folder(copy) == 10
    moved = copy.rename(tmp_path / "moved")
    assert verify(moved / "verdict.json") == 0


def test_errors_in_the_treatment_exit_with_rollback(tmp_path: Path) -> None:
    folder = fill(tmp_path / "bad", swapped(healthy(), answers(failed=60)))
    assert judge_folder(folder, as_json=True) == 20


def test_on_a_full_disk_the_last_verdict_stays_and_an_error_says_what_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fill(tmp_path / "full", healthy())
    assert judge_folder(folder) == 0
    before = (folder / "verdict.json").read_bytes()
    (folder / "verdict.partial").symlink_to("/dev/full")
    assert judge_folder(folder) == 1
    assert (folder / "verdict.json").read_bytes() == before
    assert not (folder / "verdict.partial").is_symlink()
    assert f"{folder / 'verdict.json'}: cannot be written" in capsys.readouterr().err


def test_a_folder_that_does_not_exist_holds_and_is_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge_folder(tmp_path / "nowhere") == 10
    assert not (tmp_path / "nowhere").exists()
    assert "verdict: hold" in capsys.readouterr().out


@pytest.mark.parametrize("text", [None, "", "{}", "not json"])
def test_a_file_that_is_no_verdict_cannot_be_verified(
    tmp_path: Path, text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "verdict.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert verify(path) == 1
    assert "cannot be verified" in capsys.readouterr().err


def test_another_policy_is_a_difference(judged: Path) -> None:
    verdict = from_json((judged / "verdict.json").read_text(encoding="utf-8"))
    strict = replace(policy().criteria["error_rate"], min_samples=100_000)
    other = replace(policy(), criteria={**policy().criteria, "error_rate": strict})
    differences = recompute(judged, verdict, other)
    assert any(text.startswith("subject.policy_sha256") for text in differences)


def test_a_policy_that_cannot_serve_is_a_usage_error(judged: Path, tmp_path: Path) -> None:
    config = tmp_path / "runtime.yaml"
    shutil.copy(packaged("runtime.yaml"), config)
    (tmp_path / "gates.yaml").write_text("criteria: 1\n", encoding="utf-8")
    assert judge_folder(judged, config=config) == 2
    assert verify(judged / "verdict.json", config=config) == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"valid": true', '"valid": "yes"', "valid is 'yes'; expected bool"),
        ('"workers": 1', '"workers": true', "workers is True; expected int"),
        ('"attempt": 1', '"attempt": "1"', "attempt is '1'; expected int"),
        ("phase5.evidence/1", "phase5.evidence/9", "allowed: 'phase5.evidence/1'"),
        ('"arms": {', '"arms": {"x": {}, ', "missing"),
        ('"flag_set": "all"', '"flag_set": 7', "flag_set of an engine is 7; expected str"),
        ('"criteria": [', '"criteria": [3, ', "a criterion is 3"),
    ],
)
def test_a_header_of_the_wrong_form_is_refused(
    copy: Path, old: str, new: str, message: str
) -> None:
    path = timing(copy)
    edit(path, old, new)
    with pytest.raises(EvidenceError, match=message):
        read_measurement(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"workers":2', '"workers":"2"', "workers is '2'; expected a whole number"),
        ('"run":"r"', '"run":7', "run is 7; expected a text"),
        ('"workers":2', '"criteria":[1]', "criteria are"),
        ('"kind":"session"', '"kind":"magic"', "'magic' is not a valid Kind"),
        ("phase5.attempts/1", "phase5.attempts/2", "allowed: 'phase5.attempts/1'"),
        ('"workers":2', '"unheard_of":2', "unheard_of"),
        ("{", "[" * 100_000, "not readable"),
    ],
)
def test_an_attempt_of_the_wrong_form_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "attempts.jsonl"
    append_attempt(path, Attempt(kind=head().kind, run="r", workers=2))
    edit(path, old, new)
    with pytest.raises(EvidenceError, match=message):
        read_attempts(path)


@settings(max_examples=50)
@given(st.binary(max_size=60), st.integers(0, 400))
def test_bytes_that_strayed_into_a_file_are_never_read_as_it_was(
    judged: Path, stray: bytes, at: int
) -> None:
    path = timing(judged)
    whole = path.read_bytes()
    spoilt = whole[:at] + stray + whole[at:]
    other = judged.parent / "strayed.jsonl"
    other.write_bytes(spoilt)
    try:
        read = read_measurement(other)
    except EvidenceError:
        return
    assert read.samples == read_measurement(path).samples


@pytest.mark.parametrize("ok", ["yes", 1, None])
def test_a_check_whose_answer_is_neither_yes_nor_no_is_refused(tmp_path: Path, ok: object) -> None:
    checks = (Check(name="ready", ok=ok),)  # type: ignore[arg-type]  # as a careless test writes it
    path = write_measurement(tmp_path, replace(healthy()[0], checks=checks))
    with pytest.raises(EvidenceError, match=r"ok of a check is .*; expected bool"):
        read_measurement(path)
