"""A small project under a gate: its own policy, a stand-in engine, and a lying old verdict."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A session inside this process forgets what it imported, and numpy cannot be imported twice;
# for the others it would only cost time.
import httpx  # noqa: F401 - as above
import numpy as np  # noqa: F401 - as above
import pytest

import gates.policy  # noqa: F401 - as above
import pytest_phase5.bounds
import pytest_phase5.judging
import pytest_phase5.pool
import pytest_phase5.report
import pytest_phase5.reporting.writing
import pytest_phase5.session  # noqa: F401 - as above

STUB = Path(__file__).with_name("stub_engine.py")

POLICY = """
criteria:
  answers:
    kind: invariant
    measure: checks
  error_rate:
    kind: ceiling
    measure: error_rate
    limit: 0.1 %
  ttft_p95_ms:
    kind: ceiling
    measure: ttft
    quantile: 0.95
    limit: 550 ms
  tests_green:
    kind: invariant
    measure: attempts
    covers: project
stages:
  canary: {percentage: 1, soak_hours: 24, enter: [answers, tests_green]}
  early: {percentage: 10, soak_hours: 48}
  mid: {percentage: 50, soak_hours: 72}
  full: {percentage: 100, soak_hours: 0}
"""

#: Two items: one that brings evidence, and one more that must pass.
ITEMS = """
import pytest

@pytest.mark.slo("answers")
def test_answers(mlx_engine, evidence):
    evidence.serves(mlx_engine)
    evidence.check("answers", mlx_engine.chat("hello") == "echo hello")

@pytest.mark.slo("tests_green")
def test_green():
    pass
"""

#: What an earlier, better day left behind.
LIE = '{"schema": "phase5.verdict/1", "verdict": "promote"}\n'

#: One flag is enough to be judged, and one engine to start.
GATE = ("--phase5-gate=canary", "--phase5-flags=ttft_pipeline")


@dataclass(frozen=True)
class Project:
    """A project in a folder of its own, and what a gate left in it."""

    pytester: pytest.Pytester

    @property
    def path(self) -> Path:
        return self.pytester.path

    @property
    def report(self) -> Path:
        return self.path / "phase5-report"

    @property
    def journal(self) -> list[list[str]]:
        file = self.path / "journal"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def stub(self, *arguments: str) -> str:
        journal = str(self.path / "journal")
        words = [sys.executable, str(STUB), "--journal", journal, *arguments]
        return f"--phase5-engine-command={shlex.join(words)}"

    def write(self, **files: str) -> None:
        self.pytester.makepyfile(**files)

    def lie(self) -> None:
        self.report.mkdir()
        (self.report / "verdict.json").write_text(LIE)

    def gate(self, *arguments: str, processes: bool = False) -> pytest.RunResult:
        """Run under a gate; an engine command among the arguments replaces the stub's."""
        return self.run(*GATE, *arguments, processes=processes)

    def run(self, *arguments: str, processes: bool = False) -> pytest.RunResult:
        run = self.pytester.runpytest_subprocess if processes else self.pytester.runpytest_inprocess
        return run(*self._with_engine(arguments))

    def verdict(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.report / "verdict.json").read_text())
        return document

    def attempts(self) -> list[dict[str, Any]]:
        text = (self.report / "attempts.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def evidence(self) -> list[dict[str, Any]]:
        """The headers of the evidence files."""
        files = sorted((self.report / "evidence").glob("*.jsonl"))
        return [json.loads(file.read_text().splitlines()[0]) for file in files]

    def _with_engine(self, arguments: Sequence[str]) -> list[str]:
        given = any(a.startswith("--phase5-engine-command") for a in arguments)
        return [*arguments, *([] if given else [self.stub()])]


@pytest.fixture
def project(pytester: pytest.Pytester) -> Project:
    """A project with a small policy, without the packaged suite, and with the stand-in engine."""
    config = pytester.mkdir("config")
    (config / "runtime.yaml").write_text("generation: 1\n")
    (config / "gates.yaml").write_text(POLICY)
    pytester.makeini(
        "[pytest]\nphase5_suite = false\n"
        "addopts = -p no:locust -p no:asyncio -p no:cov -p no:hypothesispytest"
        " -p no:schemathesis --strict-markers\n"
    )
    return Project(pytester)


@pytest.fixture
def stub_server() -> Iterator[Callable[..., str]]:
    """Start stand-in engines that the plugin does not own; returns their URLs."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> str:
        command = [sys.executable, str(STUB), "--port", "0", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        return process.stdout.readline().split()[1]

    yield start
    for process in running:
        process.terminate()
        process.communicate()
