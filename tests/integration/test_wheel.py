"""The built wheel, installed where nothing of the checkout is, beside a user's own `engine/`."""

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest

ROOT = Path(__file__).resolve().parents[2]


FULL = "PHASE5_FULL" in os.environ


@dataclass(frozen=True)
class Installed:
    """An environment that holds the wheel, and the locked dependencies of this one."""

    python: Path
    packages: Path

    def run(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        command = [str(self.python), *arguments]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)

    def phase5(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return self.run(str(self.python.with_name("phase5")), *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin" / "python"
    install = ["install", "-q", "--no-deps", "--no-index", "--no-cache-dir", str(wheel)]
    pip = [sys.executable, "-m", "pip", "--python", str(python), *install]
    subprocess.run(pip, check=True, capture_output=True)
    query = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.check_output(query, text=True).strip())
    # Dependencies come from this environment. A path that is only appended does not read
    # the .pth files there, so the checkout itself stays out.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Installed(python, packages)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's project with packages of its own that have our names."""
    for name in ("engine", "gates"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the user's code ran')\n")
    return tmp_path


def test_the_packages_are_those_of_the_wheel(installed: Installed, tmp_path: Path) -> None:
    names = ["engine", "gates", "chaos", "pytest_phase5"]
    code = f"import {', '.join(names)}; print({' , '.join(n + '.__file__' for n in names)})"
    done = installed.run("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = [Path(file).parent for file in done.stdout.split()]
    assert found == [installed.packages / name for name in names]


def test_the_program_runs_beside_a_users_engine(installed: Installed, project: Path) -> None:
    done = installed.phase5("--help", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "init" in done.stdout


def test_init_writes_the_packaged_files(installed: Installed, project: Path) -> None:
    done = installed.phase5("init", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    files = json.loads(done.stdout)["files"]
    assert all(file["written"] for file in files)
    assert {file["path"] for file in files} == {
        "config/runtime.yaml",
        "config/gates.yaml",
        ".github/actions/phase5-gate/action.yml",
        ".github/workflows/phase5-gate.yml",
        "tests/test_slo.py",
    }
    for name in ("runtime.yaml", "gates.yaml"):
        assert (project / "config" / name).read_bytes() == (ROOT / "config" / name).read_bytes()


def test_a_users_engine_that_comes_first_is_refused_with_both_paths(
    installed: Installed, project: Path
) -> None:
    done = installed.run("-m", "pytest_phase5.cli", "--help", cwd=project)
    assert done.returncode == 2
    assert f"'engine' resolves to {project / 'engine'}" in done.stderr
    assert f"expected: {installed.packages / 'engine'}" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_written_workflow_has_no_findings(installed: Installed, tmp_path: Path) -> None:
    installed.phase5("init", cwd=tmp_path)
    zizmor = Path(sys.executable).with_name("zizmor")
    command = [str(zizmor), "--offline", "--persona=pedantic", "--quiet", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_written_test_is_collected(installed: Installed, tmp_path: Path) -> None:
    installed.phase5("init", cwd=tmp_path)
    command = ["-m", "pytest", "--collect-only", "-q", "-p", "no:locust", "tests"]
    done = installed.run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tests/test_slo.py::" in done.stdout


def gate_promotes(installed: Installed, tmp_path: Path) -> None:
    """The main job as a user runs it: `phase5 init`, then the whole gate, every flag."""
    assert installed.phase5("init", cwd=tmp_path).returncode == 0
    gate = ["-m", "pytest", "-p", "no:asyncio", "--phase5-gate=canary", "--phase5-from=off"]
    done = installed.run(*gate, cwd=tmp_path)
    text = (tmp_path / "phase5-report" / "verdict.json").read_text(encoding="utf-8")
    verdict = json.loads(text)
    schema = json.loads((installed.packages / "gates" / "verdict.schema.json").read_text())
    jsonschema.validate(verdict, schema)
    left_open = [row["id"] for row in verdict["criteria"] if row["outcome"] != "pass"]
    assert not left_open, done.stdout
    assert verdict["verdict"] == "promote"
    assert done.returncode == 0, done.stdout + done.stderr
    assert verdict["dry_run"] is True
    assert set(verdict["flags"].values()) == {"promote"}
    verified = installed.phase5("gate", "verify", cwd=tmp_path)
    assert verified.returncode == 0, verified.stdout + verified.stderr


if FULL:  # minutes long: elsewhere tests/actions run the packaged suite, and `./dev gate` all of it

    def test_a_gate_from_the_wheel_promotes_the_healthy_engine(
        installed: Installed, tmp_path: Path
    ) -> None:
        gate_promotes(installed, tmp_path)
