"""Commands without `--config` go by the project that they are called in."""

import json
import re
from pathlib import Path

import pytest
from gate_builders import healthy
from test_report_folder import fill
from typer.testing import CliRunner

from engine.config import packaged
from pytest_phase5.cli import app


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One whose door to canary demands a single criterion, with a report folder."""
    config = tmp_path / "config"
    config.mkdir()
    (config / "runtime.yaml").write_bytes(packaged("runtime.yaml").read_bytes())
    text = packaged("gates.yaml").read_text("utf-8")
    (config / "gates.yaml").write_text(re.sub(r"enter: \[flag.*", "enter: [error_rate]", text))
    fill(tmp_path / "phase5-report", healthy())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_verdict_is_made_and_checked_by_the_projects_own_rules(project: Path) -> None:
    judged = CliRunner().invoke(app, ["gate", "judge", "--json"])
    assert judged.exit_code == 0, judged.output
    assert [row["id"] for row in json.loads(judged.stdout)["criteria"]] == ["error_rate"]

    by_itself = CliRunner().invoke(app, ["gate", "verify"])
    named = CliRunner().invoke(app, ["gate", "verify", "--config", "config/runtime.yaml"])
    assert (by_itself.exit_code, by_itself.output) == (0, named.output)
    assert by_itself.output.startswith("verified: promote")

    (project / "config" / "gates.yaml").unlink()  # so the packaged rules hold
    assert CliRunner().invoke(app, ["gate", "verify"]).exit_code == 1


@pytest.mark.parametrize(
    "command",
    [["gate", "explain", "error_rate"], ["plan", "canary", "--rate", "50"], ["report"]],
    ids=" ".join,
)
def test_rules_that_cannot_serve_are_found_by_every_command(
    command: list[str], project: Path
) -> None:
    (project / "config" / "gates.yaml").write_text("criteria: {}\nunheard_of: 1\n")
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2, done.output
    assert "unheard_of" in done.output
