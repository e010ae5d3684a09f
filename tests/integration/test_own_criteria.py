"""The guide to one's own criteria holds: what it writes is demanded, measured and judged."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from doc_blocks import Block, blocks
from gating import GatedSession, project

PAGE = "docs/phase5/how-to/own-criteria.md"
POLICY = "config/gates.yaml"


def block(language: str, words: str) -> Block:
    (found,) = [b for b in blocks(language) if b.page == PAGE and words in b.text]
    return found


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    """A project as the guide leaves it, without the packaged suite."""
    folder = project(tmp_path, "tests_green")
    given = yaml.safe_load(block("yaml", "criteria:").text)
    policy = yaml.safe_load((folder / POLICY).read_text("utf-8"))
    policy["criteria"] |= given["criteria"]
    policy["stages"]["canary"]["enter"].append("answers_right")
    assert "answers_right" in given["stages"]["canary"]["enter"]
    (folder / POLICY).write_text(yaml.safe_dump(policy, sort_keys=False), "utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nphase5_suite = false\n")
    (folder / "conftest.py").write_text(block("python", "def pytest_phase5_criteria").text)
    (folder / "test_ours.py").write_text(block("python", "answers_right").text)
    return folder


def gated(folder: Path) -> dict[str, Any]:
    """The verdict, and each criterion by its name."""
    session = GatedSession.start(folder, "--phase5-flags=ttft_pipeline", "--phase5-model=tiny")
    try:
        verdict = session.verdict()
    finally:
        session.stop()
    return verdict | {row["id"]: row for row in verdict["criteria"]}


def test_criteria_of_ones_own_are_judged_and_one_that_breaks_holds(reader: Path) -> None:
    verdict = gated(reader)
    assert {row["id"] for row in verdict["criteria"]} == {
        "tests_green",
        "answers_right",
        "our_ttft",
    }
    assert verdict["answers_right"]["outcome"] == "pass"
    # Judged as well; how a time comes out, and whether it says anything, is this machine's matter.
    assert verdict["our_ttft"]["outcome"] not in {"no_data", "fail"}

    tests = reader / "test_ours.py"
    tests.write_text(re.sub(r"== first\)", "!= first)", tests.read_text("utf-8")), "utf-8")
    verdict = gated(reader)
    assert verdict["verdict"] == "hold"
    assert verdict["answers_right"]["outcome"] == "fail"
