"""The tools of the tests here, and what a run of act tells."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]

#: What the actions of others do here. `SHIM_ATTACK` runs between the jobs, in the checkout.
SHIMS = {
    "actions/upload-artifact": 'mkdir -p "$SHIM_STORE" && rm -rf "$SHIM_STORE/$NAME" && '
    'if [ -d "$FROM" ]; then cp -r "$FROM" "$SHIM_STORE/$NAME"; fi',
    "actions/download-artifact": 'cp -r "$SHIM_STORE/$NAME" "$FROM" && bash -c "${SHIM_ATTACK:-:}"',
}


def tool(name: str) -> Path:
    """A program of the tests, which `./dev test` builds.

    Raises:
        AssertionError: it is not there. A test without its tool fails.
    """
    built = ROOT / ".tools" / "bin" / name
    found = built if built.exists() else shutil.which(name)
    assert found, f"{name} is missing: ./dev test builds it"
    return Path(found)


def told(line: Mapping[str, Any]) -> bool:
    """Whether a line of act's log is about the workflow, and not about act's own work."""
    return not str(line.get("msg", "")).startswith("LocalRepositoryCache")


@dataclass
class Ran:
    """One run of a workflow."""

    status: int
    lines: list[dict[str, Any]]

    @property
    def jobs(self) -> dict[str, str]:
        """Jobs that ran, with how they ended; a job that was skipped is not there."""
        return {line["jobID"]: line["jobResult"] for line in self.lines if "jobResult" in line}

    def commands(self, name: str, text: str) -> list[str]:
        """What the runner took for commands of a name, and that contain a text."""
        found = (line for line in self.lines if line.get("command") == name)
        return [raw for raw in (str(line.get("raw")) for line in found) if text in raw]

    @property
    def log(self) -> str:
        return "\n".join(str(line.get("msg", "")).rstrip("\n") for line in self.lines if told(line))


def shim(folder: Path, name: str) -> Path:
    """A folder with the action that stands for one of others."""
    if not folder.exists():
        folder.mkdir(parents=True)
        step = {
            "shell": "bash",
            "run": SHIMS.get(name, ":"),
            "env": {"NAME": "${{ inputs.name }}", "FROM": "${{ inputs.path }}"},
        }
        names = ("name", "path", "key", "python-version", "if-no-files-found", "subject-path")
        action = {
            "name": name,
            "description": name,
            "inputs": {key: {"description": key} for key in names},
            "runs": {"using": "composite", "steps": [step]},
        }
        (folder / "action.yml").write_text(yaml.safe_dump(action), "utf-8")
    return folder
