"""What a session and its verdict come to, and where annotations point."""

import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from gate_builders import answers, evidence, healthy, policy, request, swapped

from gates.actions.outcome import concluded, stage_in_turn
from gates.actions.places import Place, place_of, places
from gates.actions.pushing import newest, pushing
from gates.actions.session import Asked, InputError
from gates.actions.summary import notes, summary
from gates.attempts import append_attempt
from gates.github import GithubError
from gates.judge import judge
from gates.standing import Standing
from gates.verdict import digest, to_json

GOOD = judge(policy(), evidence(), request())
BAD = judge(policy(), evidence(swapped(healthy(), answers(failed=60))), request())
HELD = judge(policy(), evidence(()), request())


def test_a_verdict_and_the_status_that_belongs_to_it_agree() -> None:
    outcome = concluded(0, to_json(GOOD))
    assert (outcome.verdict, outcome.to, outcome.guilty) == ("promote", "canary", ())
    assert outcome.digest == digest(to_json(GOOD))
    assert "ttft_pipeline off -> canary" in outcome.reason
    outcome = concluded(1, to_json(BAD))
    assert (outcome.verdict, outcome.to) == ("rollback", "")
    assert "ttft_pipeline" in outcome.guilty
    assert outcome.reason.startswith("error_rate 2 %")
    assert concluded(5, to_json(HELD)).verdict == "hold"


@pytest.mark.parametrize("status", [1, 2, 3, 4, 5, 10, -9])
def test_a_promotion_needs_exit_0(status: int) -> None:
    outcome = concluded(status, to_json(GOOD))
    assert (outcome.verdict, outcome.digest) == ("none", "")
    assert f"pytest ended with {status}" in outcome.reason


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"verdict": "promote"}', to_json(HELD)])
def test_exit_0_is_never_a_promotion_by_itself(text: str | None) -> None:
    assert concluded(0, text).verdict == "none"


def test_stages_take_turns_and_off_and_full_have_none() -> None:
    standings = {
        "adaptive_governor": Standing(stage="off"),
        "http2_transport": Standing(stage="canary"),
        "ttft_pipeline": Standing(stage="mid"),
        "qos_monitoring": Standing(stage="canary"),
    }
    hour = datetime(2026, 1, 1, tzinfo=UTC)
    turns = [stage_in_turn(standings, hour + timedelta(hours=n)) for n in range(4)]
    canary = "off,http2_transport,qos_monitoring,http2_transport+qos_monitoring"
    assert sorted(turns[:2]) == [("canary", canary), ("mid", "off,ttft_pipeline")]
    assert turns[:2] == turns[2:]
    everywhere = {flag: replace(s, stage="full") for flag, s in standings.items()}
    assert stage_in_turn(everywhere, hour) == ("", "")
    assert stage_in_turn({}, hour) == ("", "")


def test_the_summary_shows_what_tests_wrote_as_text() -> None:
    hostile = replace(BAD.criteria[1], reason="<img src=x> | **bold**\n# head [a](b)")
    outcome = replace(concluded(1, to_json(BAD)), judged=replace(BAD, criteria=(hostile,)))
    text = "\n".join(summary(outcome, {}))
    assert "&lt;img src=x&gt; \\| \\*\\*bold\\*\\* \\# head \\[a\\]\\(b\\)" in text
    assert "## phase5 gate: rollback" in text


def test_the_summary_links_to_what_the_runner_told_of() -> None:
    names = ("SERVER_URL", "REPOSITORY", "RUN_ID", "SHA")
    values = ("https://github.com", "acme/rollout", "7", "c0ffee")
    told = {f"GITHUB_{name}": value for name, value in zip(names, values, strict=True)}
    text = "\n".join(summary(concluded(0, to_json(GOOD)), told))
    assert "https://github.com/acme/rollout/actions/runs/7" in text
    assert "https://github.com/acme/rollout/commit/c0ffee" in text
    assert "](" not in "\n".join(summary(concluded(0, to_json(GOOD)), {}))


def test_a_note_stands_at_the_test_and_only_where_something_is_wrong() -> None:
    assert list(notes(GOOD, {})) == []
    found = list(notes(BAD, {"error_rate": Place("tests/test_slo.py", 7)}))
    note = next(note for note in found if note.title.startswith("error_rate"))
    assert (note.level, note.file, note.line) == ("error", "tests/test_slo.py", 7)


SLO = """import pytest

class TestSlo:
    @pytest.mark.slo("error_rate")
    @pytest.mark.parametrize("n", [1])
    def test_errors(self, n):
        pass
"""


def test_a_test_is_found_at_its_first_decorator(tmp_path: Path) -> None:
    (tmp_path / "test_slo.py").write_text(SLO, "utf-8")
    place = place_of("test_slo.py::TestSlo::test_errors[1-a::b]", tmp_path)
    assert place == Place("test_slo.py", 4)


@pytest.mark.parametrize(
    "item",
    ["../other.py::test_a", "missing.py::test_a", "test_slo.py", "test_slo.py::test_none", ""],
)
def test_what_is_not_in_the_checkout_has_no_place(tmp_path: Path, item: str) -> None:
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "test_slo.py").write_text(SLO, "utf-8")
    (tmp_path / "other.py").write_text("def test_a(): pass\n", "utf-8")
    assert place_of(item, root) is None


def test_attempts_that_cannot_be_read_give_no_place(tmp_path: Path) -> None:
    assert places(tmp_path / "attempts.jsonl", tmp_path) == {}
    for row in evidence().attempts:
        append_attempt(tmp_path / "attempts.jsonl", row)
    assert places(tmp_path / "attempts.jsonl", tmp_path) == {}


def asked(**changes: object) -> Asked:
    given: dict[str, object] = {
        "stage": "canary",
        "flags": "every",
        "config": Path("runtime.yaml"),
        "report": Path("report"),
        "seconds": 60.0,
    }
    return Asked(**{**given, **changes})  # type: ignore[arg-type] - the point of some tests


def test_every_value_is_one_argument() -> None:
    evil = "x --phase5-from=off"
    command = asked(flags=evil, model=evil, evidence=(evil,), tests=("tests/a b",)).command()
    assert f"--phase5-model={evil}" in command
    assert f"--phase5-evidence={evil}" in command
    assert [word for word in command if word.startswith("--phase5-from")] == []
    assert command[-1] == "tests/a b"
    assert "--phase5-from=off" in asked(from_off=True).command()


@pytest.mark.parametrize("changes", [{"stage": "off"}, {"stage": "x;y"}, {"tests": ("-k", "x")}])
def test_what_cannot_be_asked_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match="allowed"):
        asked(**changes)


def test_the_token_is_known_to_git_and_only_for_a_while() -> None:
    environment = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "a.b", "GIT_CONFIG_VALUE_0": "c"}
    before = dict(environment)
    with pushing("t0ken", environment):
        done = subprocess.run(
            ["git", "credential", "fill"],
            input="protocol=https\nhost=github.com\n\n",
            env={"PATH": os.environ["PATH"], "GIT_TERMINAL_PROMPT": "0", **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "password=t0ken" in done.stdout
        assert all("t0ken" not in v for k, v in environment.items() if k.startswith("GIT_"))
    assert environment == before
    with pushing("", environment):
        assert environment == before


@pytest.mark.parametrize(
    "told",
    [{}, {"GITHUB_SHA": "c0ffee", "GITHUB_REF": "refs/tags/v1"}, {"GITHUB_REF": "refs/heads/m"}],
)
def test_a_promotion_runs_on_a_branch(told: dict[str, str]) -> None:
    with pytest.raises(GithubError, match="run on a branch"):
        newest(told)
