from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from live_builders import FLAG, HEADER, drawn, just_after, row

from gates.criteria import Outcome
from gates.judge import Evidence, Request, judge
from gates.ledger import Header, Row
from gates.ledger_file import LEDGER_FOLDER, name_of, text_of
from gates.policy import load_policy
from gates.reader import read_folder
from gates.stages import Policy, Transition
from gates.verdict import Decision, Subject, Verdict, to_json

DOOR = ("soak", "live_crashes", "live_error_rate", "live_ttft_better")


def policy() -> Policy:
    """The packaged one, with a door out of canary that looks at live traffic alone."""
    packaged = load_policy()
    canary = replace(packaged.stages["canary"], leave=DOOR)
    early = replace(packaged.stages["early"], enter=())
    return replace(packaged, stages={**packaged.stages, "canary": canary, "early": early})


def request(now: datetime, *, flag: str = FLAG, epoch: int = 3) -> Request:
    return Request(
        stage="canary",
        transitions={flag: Transition("canary", "early")},
        now=now,
        subject=Subject(
            commit="abc", config_sha256="def", engine_version="1", epochs={flag: epoch}
        ),
    )


def folder_with(tmp_path: Path, told: Iterable[Row], header: Header = HEADER) -> Path:
    folder = tmp_path / LEDGER_FOLDER
    folder.mkdir(parents=True)
    path = folder / name_of(header.flag, header.epoch)
    path.write_text(text_of(header, told), encoding="utf-8")
    return tmp_path


def verdict_of(folder: Path, asked: Request) -> Verdict:
    return judge(policy(), read_folder(folder), asked)


def healthy() -> list[Row]:
    return drawn(1_440, 7, slow=(0.01, 0.03))


def test_a_healthy_soak_is_promoted_on_its_ledger_alone(tmp_path: Path) -> None:
    told = healthy()
    verdict = verdict_of(folder_with(tmp_path, told), request(just_after(told)))
    assert verdict.flags == {FLAG: Decision.PROMOTE}
    assert {c.id: c.outcome for c in verdict.criteria} == dict.fromkeys(DOOR, Outcome.PASS)
    assert [c.source for c in verdict.criteria] == ["live"] * len(DOOR)
    assert [file.file for file in verdict.evidence] == ["ledger/ttft_pipeline-3.jsonl"]


def test_the_same_ledger_gives_the_same_bytes(tmp_path: Path) -> None:
    told = healthy()
    asked = request(just_after(told))
    one, other = (
        to_json(verdict_of(folder_with(tmp_path / name, told), asked)) for name in ("a", "b")
    )
    assert one == other


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"epoch": 2}, Outcome.NO_DATA),
        ({"flag": "http2_transport"}, Outcome.NO_DATA),
        ({"stage": "early"}, Outcome.INVALID),
        ({"commit": "other"}, Outcome.INVALID),
        ({"config_sha256": "other"}, Outcome.INVALID),
    ],
)
def test_a_ledger_of_something_else_never_promotes(
    tmp_path: Path, change: dict[str, object], outcome: Outcome
) -> None:
    header = replace(HEADER, **change)  # type: ignore[arg-type] # the fields of Header
    told = [replace(r, commit=header.commit, config_sha256=header.config_sha256) for r in healthy()]
    verdict = verdict_of(folder_with(tmp_path, told, header), request(just_after(told)))
    assert verdict.verdict is Decision.HOLD
    assert outcome in {c.outcome for c in verdict.criteria}


def test_no_ledger_at_all_holds() -> None:
    verdict = judge(policy(), Evidence(), request(just_after([row(0)])))
    assert verdict.verdict is Decision.HOLD
    assert "no ledger of ttft_pipeline at epoch 3" in verdict.criteria[0].reason


@pytest.mark.parametrize("text", ["", "garbage\n", '{"schema": "phase5.ledger/1"}\n'])
def test_a_file_that_is_no_ledger_is_invalid(tmp_path: Path, text: str) -> None:
    folder = folder_with(tmp_path, [])
    (folder / LEDGER_FOLDER / name_of(FLAG, 3)).write_text(text, encoding="utf-8")
    verdict = verdict_of(folder, request(just_after([row(0)])))
    assert verdict.verdict is Decision.HOLD
    assert Outcome.INVALID in {c.outcome for c in verdict.criteria}


def test_a_broken_ledger_that_shows_a_regression_rolls_back(tmp_path: Path) -> None:
    told = drawn(60, 3, errors=(0.05, 0.0002))
    verdict = verdict_of(folder_with(tmp_path, told), request(just_after(told)))
    assert verdict.flags == {FLAG: Decision.ROLLBACK}


def test_a_session_that_is_missing_speaks_against_criteria_of_tests_only(tmp_path: Path) -> None:
    told = healthy()
    both = policy()
    canary = replace(both.stages["canary"], leave=(*DOOR, "tests_green"))
    both = replace(both, stages={**both.stages, "canary": canary})
    evidence = read_folder(folder_with(tmp_path, told))
    verdict = judge(both, evidence, request(just_after(told)))
    assert verdict.verdict is Decision.HOLD
    outcomes = {c.id: c.outcome for c in verdict.criteria}
    assert outcomes == {**dict.fromkeys(DOOR, Outcome.PASS), "tests_green": Outcome.NO_DATA}
