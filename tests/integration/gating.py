"""Gated sessions of the packaged suite in projects of their own."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GATE = ("-m", "pytest", "-p", "no:asyncio", "-p", "no:locust", "--phase5-gate=canary")


def project(folder: Path, *criteria: str) -> Path:
    """A project whose door to canary demands these criteria, at the packaged thresholds."""
    config = folder / "config"
    config.mkdir()
    (config / "runtime.yaml").write_bytes((ROOT / "config" / "runtime.yaml").read_bytes())
    packaged = (ROOT / "config" / "gates.yaml").read_text(encoding="utf-8")
    demanded = f"enter: [{', '.join(criteria)}]"
    policy, changed = re.subn(r"enter: \[[a-z0-9_, ]+\]", demanded, packaged)
    assert changed == 1
    (config / "gates.yaml").write_text(policy, encoding="utf-8")
    return folder


@dataclass(slots=True)
class GatedSession:
    """A session that runs, and what it left when it has ended."""

    folder: Path
    process: subprocess.Popen[str]
    output: str = ""

    @classmethod
    def start(cls, folder: Path, *arguments: str) -> "GatedSession":
        """Start one; all flags count as off, so every flag stands at the door."""
        command = [sys.executable, *GATE, "--phase5-from=off", *arguments]
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return cls(folder, process)

    def verdict(self) -> dict[str, Any]:
        """Wait for its end, and read what it came to."""
        if not self.output:
            self.output = self.process.communicate()[0]
        path = self.folder / "phase5-report" / "verdict.json"
        assert path.exists(), self.output
        verdict: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return verdict

    def stop(self) -> None:
        """End it, if it still runs, and wait until it has."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.communicate()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:  # of a session that nobody asked for its words
                pipe.close()
