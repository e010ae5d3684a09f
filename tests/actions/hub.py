"""A throw-away repository with a bare remote, and act, which executes its real workflows.

What is ours is real: workflows, composite actions, pytest, the judge, the moves, Git. Only the
actions of others are replaced, by small ones that do on this disk what theirs do at GitHub.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from act_runs import ROOT, Ran, shim, tool
from fake_engine import FakeEngine, running
from fake_github import FakeGithub, answering

from engine.config import load_config
from engine.server.machine import machine_class
from gates.history import HISTORY_FILE

HERE = Path(__file__).parent
PROJECT = HERE / "project"
FLAG = "ttft_pipeline"
URL = "https://github.com/acme/rollout.git"
BRANCH = "rollout"
USES = re.compile(r"uses: ([\w.-]+/[\w.-]+)@([0-9a-f]{40})")

PHASE5 = (sys.executable, "-P", "-m", "pytest_phase5.cli")

#: Seconds after which act is ended: a bound against hanging.
PATIENCE = 180


@dataclass
class Hub:
    """The repository, its remote, and what serves beside it."""

    folder: Path
    engine: FakeEngine  #: the fleet
    measured: FakeEngine  #: what the gate measures
    github: FakeGithub
    number: int = field(default=4000)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def bare(self) -> Path:
        return self.folder / "origin.git"

    # The repository.

    def git(self, *arguments: str, folder: Path | None = None) -> str:
        command = ["git", "-C", str(folder or self.work), *arguments]
        env = {**os.environ, **self._environment()}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout.strip()

    def commit(self, message: str = "change") -> None:
        """Everything in the work tree, onto main, at the remote, too."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        self.git("push", "--quiet", "origin", "HEAD:main")

    def edit(self, path: str, old: str, new: str) -> None:
        """Change a file of the repository; the text must be there."""
        file = self.work / path
        text = file.read_text("utf-8")
        assert old in text, f"{path}: no {old!r}"
        file.write_text(text.replace(old, new), "utf-8")

    def state(self, stage: str, percentage: float, epoch: int = 1) -> None:
        """Put the flag at a stage, in the store and in the fleet."""
        flag = {
            "enabled": percentage > 0,
            "rollout_percentage": percentage,
            "stage": stage,
            "epoch": epoch,
            "entered_at": "2026-01-01T00:00:00+00:00",
        }
        text = yaml.safe_dump({"phase4_rollout": {FLAG: flag}, "generation": 3, **self.rollout()})
        tree = self.folder / "state"
        if not tree.exists():
            subprocess.run(["git", "init", "--quiet", "-b", BRANCH, tree], check=True)
            self.git("remote", "add", "origin", URL, folder=tree)
        (tree / "config").mkdir(exist_ok=True)
        (tree / "config" / "runtime.yaml").write_text(text, "utf-8")
        self.git("add", "--all", folder=tree)
        self.git("commit", "--quiet", "-m", "state", folder=tree)
        self.git("push", "--quiet", "--force", "origin", f"HEAD:{BRANCH}", folder=tree)
        digest = load_config(tree / "config" / "runtime.yaml").digest()
        for engine in (self.engine, self.measured):
            engine.config_sha256 = digest
            engine.generation = 3
        self.engine.shares[FLAG], self.engine.stages[FLAG] = percentage, stage

    # What was committed there.

    def stored(self) -> dict[str, Any]:
        """The flag in the store's branch at the remote."""
        document: dict[str, Any] = yaml.safe_load(self.show("config/runtime.yaml"))
        found: dict[str, Any] = document["phase4_rollout"][FLAG]
        return found

    @property
    def stage(self) -> str:
        return str(self.stored()["stage"])

    def history(self) -> list[dict[str, Any]]:
        names = self.git("ls-tree", "-r", "--name-only", BRANCH, folder=self.bare).split()
        text = self.show(HISTORY_FILE) if HISTORY_FILE in names else ""
        return [json.loads(line) for line in text.splitlines()]

    def tip(self, branch: str = BRANCH) -> str:
        return self.git("rev-parse", branch, folder=self.bare)

    def show(self, path: str) -> str:
        return self.git("show", f"{BRANCH}:{path}", folder=self.bare)

    def overtake(self, *command: str) -> None:
        """Let a command of ours win the race for the next push to the store's branch.

        It is run now, taken back, and put in place just before that push.
        """
        before = self.tip()
        shutil.copytree(self.work / "config", self.folder / "somebody")
        config = self.folder / "somebody" / "runtime.yaml"
        words = [*PHASE5, command[0], "--config", str(config), *command[1:]]
        done = subprocess.run(
            words, cwd=self.work, env={**os.environ, **self._environment()}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        after = self.tip()
        assert after != before, done.stderr
        self.git("update-ref", f"refs/heads/{BRANCH}", before, folder=self.bare)
        self.engine.generation -= 1  # it was told, and must not know yet
        (self.folder / "trap").write_text(after, "utf-8")

    def mutate(self, path: str, old: str, new: str) -> None:
        """Let the promotion run a copy of our package in which a text is another one."""
        package = self.folder / "mutated" / "gates"
        if not package.exists():
            shutil.copytree(ROOT / "gates", package)
            name = "        env:\n          PHASE5_ADMIN_TOKEN"
            ours = name.replace("env:", f"env:\n          PYTHONPATH: {package.parent}")
            self.edit(".github/workflows/rollout.yml", name, ours)
            self.commit("mutated")
        self.edit(str(package.parent / path), old, new)

    # Running.

    def run(
        self,
        workflow: str = "rollout",
        event: str = "workflow_dispatch",
        *,
        case: str = "good",
        attack: str = "",
        variables: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        **inputs: str,
    ) -> Ran:
        """Execute a workflow; the SLO test does what the case says."""
        self.number += 1
        env = {
            "GITHUB_RUN_ID": str(self.number),
            "PHASE5_VENV": sys.prefix,
            "SHIM_STORE": str(self.folder / "artifacts" / str(self.number)),
            "SHIM_ATTACK": attack,
            "SLO_CASE": case,
            f"SLO_ENGINE_{FLAG}": self.measured.url,
            "BARE": str(self.bare),
            "TRAPS": str(self.folder),
            "GITHUB_API_URL": self.github.url,
            **(environment or {}),
        }
        if workflow == "rollout":
            inputs = {"stage": "canary", "flags": FLAG, **inputs}
        given = [f"--input={name.replace('-', '_')}={value}" for name, value in inputs.items()]
        known = {"PHASE5_TESTS": "slo", **(variables or {})}
        command = [
            str(tool("act")),
            event,
            f"--workflows=.github/workflows/{workflow}.yml",
            "--platform=ubuntu-latest=-self-hosted",
            "--no-cache-server",
            "--action-offline-mode",
            "--json",
            "--secret=GITHUB_TOKEN=test-token",
            *self._shims(),
            *given,
            *(f"--env={name}={value}" for name, value in env.items()),
            *(f"--var={name}={value}" for name, value in known.items()),
        ]
        done = subprocess.run(
            command, cwd=self.work, env=self._environment(), capture_output=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
        text = done.stdout.decode(errors="replace")
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        assert lines, done.stderr.decode(errors="replace")
        return Ran(done.returncode, lines)

    def _shims(self) -> Iterator[str]:
        """The folder that stands for each action of others, at the commit that it is pinned to."""
        for path in sorted((self.work / ".github").rglob("*.yml")):
            for name, commit in USES.findall(path.read_text("utf-8")):
                folder = shim(self.folder / "shims" / name, name)
                yield f"--local-repository={name}@{commit}={folder}"

    def _environment(self) -> dict[str, str]:
        home = self.folder / "home"
        return {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_CONFIG_HOME": str(home / "config"),
        }

    def rollout(self) -> dict[str, Any]:
        return {"rollout": {"store": f"git:{URL}#{BRANCH}", "engines": [self.engine.url]}}

    def make(self) -> None:
        """The repository as it is at the beginning: every flag off."""
        (self.folder / "home").mkdir()
        self._git_settings()
        self._trap()
        subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", self.bare], check=True)
        subprocess.run(["git", "init", "--quiet", "-b", "main", self.work], check=True)
        self.git("remote", "add", "origin", URL)
        shutil.copytree(ROOT / ".github", self.work / ".github")
        (self.work / "slo").mkdir()
        shutil.copy(PROJECT / "hooks.py", self.work / "slo" / "conftest.py")
        shutil.copy(PROJECT / "slos.py", self.work / "slo" / "test_slo.py")
        shutil.copy(PROJECT / "pytest.ini", self.work / "pytest.ini")
        (self.work / "config").mkdir()
        shutil.copy(PROJECT / "gates.yaml", self.work / "config" / "gates.yaml")
        (self.work / "config" / "runtime.yaml").write_text(yaml.safe_dump(self.rollout()), "utf-8")
        (self.work / ".gitignore").write_text(".venv\nphase5-report/\n*.state/\n", "utf-8")
        dev = self.work / "dev"
        dev.write_text('#!/bin/sh\nln -sfn "$PHASE5_VENV" .venv\n', "utf-8")
        dev.chmod(0o755)
        self.commit("begin")
        self.state("off", 0, epoch=0)

    def _trap(self) -> None:
        """A Git that lets somebody else be faster, once, where `overtake` has set it."""
        script = (
            f'#!/bin/sh\nif [ -f "{self.folder}/trap" ]; then\n  case " $* " in\n'
            f'    *" push "*) "{shutil.which("git")}" -C "{self.bare}" update-ref '
            f'refs/heads/{BRANCH} "$(cat "{self.folder}/trap")"; rm "{self.folder}/trap" ;;\n'
            f'  esac\nfi\nexec "{shutil.which("git")}" "$@"\n'
        )
        (self.folder / "bin").mkdir()
        (self.folder / "bin" / "git").write_text(script, "utf-8")
        (self.folder / "bin" / "git").chmod(0o755)

    def _git_settings(self) -> None:
        (self.folder / "home" / ".gitconfig").write_text(
            f'[user]\n\tname = ci\n\temail = ci@example.org\n[url "file://{self.bare}"]\n'
            f"\tinsteadOf = {URL}\n",
            "utf-8",
        )


@contextmanager
def opened(folder: Path) -> Iterator[Hub]:
    """A hub, whose engines run until the end of the block."""
    with ExitStack() as stack:
        fleet = FakeEngine(machine=machine_class())
        measured = FakeEngine(machine=machine_class(), shares={FLAG: 100.0})
        hub = Hub(
            folder,
            stack.enter_context(running(fleet)),
            stack.enter_context(running(measured)),
            stack.enter_context(answering(FakeGithub())),
        )
        hub.make()
        yield hub
