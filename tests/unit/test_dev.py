"""`dev` and `.ci/run`: what can be seen of them without a set-up."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEV = ROOT / "dev"
TEXT = DEV.read_text(encoding="utf-8")

#: All that `dev` needs before it has found a Python.
TOOLS = ("bash", "cat", "cksum", "dirname", "id", "mkdir", "uname")


def run(
    *arguments: str, script: Path = DEV, path: str = os.environ["PATH"]
) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(script), *arguments]
    env = {"PATH": path, "HOME": str(script.parent)}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("script", [DEV, ROOT / ".ci" / "run"], ids=["dev", ".ci/run"])
def test_scripts_parse_and_may_be_executed(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("script", [DEV, ROOT / ".ci" / "run"], ids=["dev", ".ci/run"])
def test_scripts_use_nothing_newer_than_bash_3_2(script: Path) -> None:
    newer = (
        r"declare -A|local -n|mapfile|readarray|coproc|\$\{\w+(,,|\^\^|@[A-Z])|&>>|\|&|;;&|wait -n"
    )
    assert re.findall(newer, script.read_text(encoding="utf-8")) == []


def test_without_arguments_every_command_is_listed() -> None:
    listed = set(re.findall(r"^\./dev ([a-z]+)", run().stdout, re.MULTILINE))
    assert listed == {
        "gate",
        "test",
        "check",
        "run",
        "docs",
        "install",
        "lock",
        "clean",
        "coverage",
    }


def test_an_unknown_command_is_a_usage_error() -> None:
    done = run("tset")
    assert done.returncode == 2
    assert "unknown command 'tset'" in done.stderr
    assert done.stdout == ""


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout of `dev` alone, on a machine that has only the usual small tools."""
    shutil.copy(DEV, tmp_path / "dev")
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    return tmp_path


def test_a_machine_without_python_is_told_the_one_command(bare: Path) -> None:
    done = run("check", script=bare / "dev", path=str(bare / "bin"))
    assert done.returncode == 1
    assert "missing: Python 3.11, 3.12 or 3.13" in done.stderr
    assert "sudo apt-get install python3 python3-venv" in done.stderr
    assert "brew install python" in done.stderr


@pytest.mark.parametrize("version", ["(3, 10)", "(3, 14)"])
def test_a_python_that_is_not_supported_is_no_python(bare: Path, version: str) -> None:
    code = f"import sys; sys.version_info = {version}; exec(sys.argv[1])"
    fake = bare / "bin" / "python3"
    fake.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}' \"$2\"\n")
    fake.chmod(0o755)
    done = run("check", script=bare / "dev", path=str(bare / "bin"))
    assert done.returncode == 1
    assert "missing: Python 3.11, 3.12 or 3.13" in done.stderr


def test_every_part_has_a_budget_and_all_fit_into_24_minutes() -> None:
    table = TEXT[TEXT.index("<<'TABLE'") : TEXT.index("\nTABLE")]
    budgets = dict(re.findall(r"^([a-z]+) +([0-9]+)$", table, re.MULTILINE))
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.rglob("test_*.py"))}
    assert folders <= set(budgets)
    setup = 2 * 60
    assert setup + sum(map(int, budgets.values())) <= 24 * 60


def test_continuous_integration_runs_the_readmes_test_command() -> None:
    assert "./dev test" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "./dev test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "run: .ci/run" in (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("output", "status", "expected"),
    [
        ("12 passed in 3 s", 0, 0),
        ("12 passed, 1 failed in 3 s", 1, 1),
        ("no tests ran in 0.01 s", 0, 1),
        ("0 passed", 0, 1),
    ],
)
def test_continuous_integration_fails_if_no_test_ran(
    tmp_path: Path, output: str, status: int, expected: int
) -> None:
    (tmp_path / ".ci").mkdir()
    script = shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "dev").write_text(f"#!/bin/sh\necho '{output}'\nexit {status}\n")
    (tmp_path / "dev").chmod(0o755)
    assert run(script=Path(script)).returncode == expected
