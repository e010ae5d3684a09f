"""What every workflow of ours keeps to, beyond what linters know. Returns complaints."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github"
USES = re.compile(r"^ *(?:- )?uses: (\S+)(.*)$", re.MULTILINE)

#: Rights beyond reading, and the jobs that have them. Nobody else has any.
RIGHTS = {
    ("rollout", "promote"): {"contents": "write", "deployments": "write"},
    ("rollout", "rollback"): {"contents": "write", "deployments": "write"},
    ("rollout", "attest"): {"id-token": "write", "attestations": "write"},
    ("rollback", "rollback"): {"contents": "write", "deployments": "write"},
    ("watch", "watch"): {"contents": "write"},
    ("release", "attest"): {"id-token": "write", "attestations": "write"},
    ("release", "publish"): {"id-token": "write"},
}

#: The one condition under which something is promoted.
PROMOTE = "needs.gate.outputs.verdict == 'promote'"

#: Concurrency groups of what rolls back: never one that a promotion can hold.
ROLLBACK_GROUP = "rollback-production"


def complaints(folder: Path = GITHUB) -> list[str]:
    """Everything that is wrong below a `.github` folder."""
    found = []
    for path in sorted(folder.rglob("*.yml")):
        text = path.read_text("utf-8")
        where = path.relative_to(folder)
        found += [f"{where}: {complaint}" for complaint in _of_text(text, folder)]
        if path.parent.name == "workflows":
            found += [f"{where}: {c}" for c in of_workflow(path.stem, yaml.safe_load(text))]
        elif path.name == "action.yml":
            steps = yaml.safe_load(text)["runs"]["steps"]
            found += [f"{where}: {c}" for step in steps for c in _of_run(step)]
    return found


def pins(folder: Path = GITHUB) -> set[str]:
    """What may be used, with its version."""
    lines = (folder / "pins.txt").read_text("utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def used(folder: Path = GITHUB) -> set[str]:
    """What is used, with the comment behind it."""
    texts = (path.read_text("utf-8") for path in sorted(folder.rglob("*.yml")))
    found = (match for text in texts for match in USES.findall(text))
    return {f"{name}{comment}" for name, comment in found if not name.startswith("./")}


def _of_text(text: str, folder: Path) -> Iterator[str]:
    for name, comment in USES.findall(text):
        if not name.startswith("./") and f"{name}{comment}" not in pins(folder):
            yield f"uses {name}{comment}, which pins.txt does not have"
    if "secrets: inherit" in text:
        yield "hands all secrets on"


def of_workflow(name: str, workflow: dict[Any, Any]) -> Iterator[str]:
    """What is wrong with a workflow."""
    if workflow.get("permissions") != {}:
        yield "rights at the top; they stand at the jobs"
    if "concurrency" not in workflow:
        yield "no concurrency group"
    events = workflow[True]  # what YAML 1.1 makes of `on`
    if "pull_request_target" in events or "workflow_run" in events:
        yield "runs others' code with our rights"
    for job_name, job in workflow["jobs"].items():
        yield from (f"{job_name}: {complaint}" for complaint in _of_job(name, job_name, job))
    if name in {"rollback", "watch"} and workflow["concurrency"]["group"] != ROLLBACK_GROUP:
        yield "a rollback waits in the group of something else"


def _of_job(name: str, job_name: str, job: dict[str, Any]) -> Iterator[str]:
    allowed = RIGHTS.get((name, job_name), {})
    for right, level in job.get("permissions", {"everything": "write"}).items():
        if (right, level) != ("contents", "read") and allowed.get(right) != level:
            yield f"may {level} {right}"
    if "timeout-minutes" not in job:
        yield "no time limit"
    if job_name == "promote" and job.get("if") != PROMOTE:
        yield f"promotes if {job.get('if')}"
    if "rollback" in job_name and "environment" in job:
        yield "a rollback that waits for an approval"
    for step in job["steps"]:
        yield from _of_step(step)


def _of_step(step: dict[str, Any]) -> Iterator[str]:
    yield from _of_run(step)
    checkout = str(step.get("uses", "")).startswith("actions/checkout@")
    # To check out and to set up Python is short, and the job's limit is enough.
    if "timeout-minutes" not in step and not str(step.get("uses", "")).startswith(
        ("actions/checkout@", "actions/setup-python@")
    ):
        yield f"step {step.get('name', step.get('uses'))}: no time limit"
    if checkout and step.get("with", {}).get("persist-credentials") is not False:
        yield "a checkout that keeps its credentials"


def _of_run(step: dict[str, Any]) -> Iterator[str]:
    if "${{" in str(step.get("run", "")):
        yield f"step {step.get('name')}: an expression inside run"
