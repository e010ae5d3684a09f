"""The rules of the workflows, each with a change that breaks it; and the linters."""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from act_runs import tool
from workflow_rules import GITHUB, ROOT, complaints, of_workflow, pins, used

WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
ACTIONS = sorted((GITHUB / "actions").glob("*/action.yml"))


def test_the_workflows_keep_to_the_rules() -> None:
    assert complaints() == []
    assert {path.stem for path in WORKFLOWS} == {
        *("ci", "gate", "nightly", "release", "rollback", "rollout", "watch", "zizmor"),
    }


def test_the_list_of_pins_has_what_is_used_and_no_more() -> None:
    assert used() == pins()
    for pin in pins():
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", pin)


ALWAYS = "if: always()"
PERSIST = "          persist-credentials: false\n"
GATE_READS = "contents: read # to check"

MUTATIONS = [
    ("rollout", GATE_READS, GATE_READS.replace("read", "write"), "gate: may write contents"),
    ("rollout", "if: needs.gate.outputs.verdict == 'promote'", ALWAYS, "promotes if always()"),
    ("rollout", "permissions: {}\n\n", "permissions: {contents: write}\n\n", "rights at the top"),
    ("rollout", PERSIST, "          fetch-depth: 1\n", "keeps its credentials"),
    ("rollout", "${REASON:-", "${{ inputs.stage }}${REASON:-", "an expression inside run"),
    ("rollout", "    timeout-minutes: 75\n", "", "gate: no time limit"),
    ("rollout", "timeout-minutes: 50\n", "shell: bash\n", "step Gate: no time limit"),
    ("rollback", "group: rollback-production", "group: rollout-production", "waits in the group"),
    ("rollback", "    runs-on", "    environment: live\n    runs-on", "waits for an approval"),
    ("gate", "pull_request:", "pull_request_target:", "others' code"),
    ("gate", "043fb46d", "143fb46d", "pins.txt does not have"),
    ("gate", "a # v7.0.1", "a # v7", "pins.txt does not have"),
]


@pytest.mark.parametrize(("name", "old", "new", "complaint"), MUTATIONS)
def test_each_rule_fires(tmp_path: Path, name: str, old: str, new: str, complaint: str) -> None:
    folder = shutil.copytree(GITHUB, tmp_path / ".github")
    path = folder / "workflows" / f"{name}.yml"
    text = path.read_text("utf-8")
    path.write_text(text.replace(old, new), "utf-8")
    assert old in text
    assert any(complaint in line for line in complaints(folder))


def succeeds(command: Sequence[str | Path], cwd: Path = ROOT) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_zizmor_has_no_findings() -> None:
    zizmor = Path(sys.executable).with_name("zizmor")
    succeeds([zizmor, "--offline", "--persona=pedantic", "--no-progress", "."])


def test_actionlint_has_no_findings() -> None:
    succeeds([tool("actionlint"), "-no-color", *WORKFLOWS])


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("vendor.github-actions", ACTIONS),
        ("vendor.dependabot", [GITHUB / "dependabot.yml"]),
    ],
)
def test_the_schema_has_no_findings(schema: str, files: list[Path]) -> None:
    assert files
    check = Path(sys.executable).with_name("check-jsonschema")
    succeeds([check, f"--builtin-schema={schema}", *files])


def test_the_linters_fire(tmp_path: Path) -> None:
    """On a workflow that a careless person would write."""
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    steps = [{"run": "echo ${{ github.head_ref }}"}]
    careless = {"on": "push", "jobs": {"a": {"runs-on": "ubuntu-latest", "steps": steps}}}
    path = folder / "careless.yml"
    path.write_text(yaml.safe_dump(careless), "utf-8")
    zizmor = Path(sys.executable).with_name("zizmor")
    done = subprocess.run(
        [zizmor, "--offline", "."], cwd=tmp_path, capture_output=True, check=False
    )
    assert b"template-injection" in done.stdout
    done = subprocess.run([tool("actionlint"), path], capture_output=True, check=False)
    assert b"potentially untrusted" in done.stdout


def test_a_missing_tool_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(AssertionError, match="no-such-tool is missing"):
        tool("no-such-tool")


def test_code_owners_guard_what_a_verdict_rests_on() -> None:
    lines = (GITHUB / "CODEOWNERS").read_text("utf-8").splitlines()
    guarded = {line.split()[0] for line in lines if line and not line.startswith("#")}
    assert {"/.github/", "/config/", "/gates/"} <= guarded


def test_the_margins_of_the_night_are_stricter(tmp_path: Path) -> None:
    script = GITHUB / "scripts" / "nightly_policy.py"
    succeeds([sys.executable, "-P", script, ROOT / "config", tmp_path / "night"])
    from gates.policy import load_policy

    day, night = load_policy(), load_policy(tmp_path / "night" / "gates.yaml")
    changed = [name for name in day.criteria if day.criteria[name] != night.criteria[name]]
    assert changed == ["ttft_p95_vs_control", "latency_p95_vs_control"]
    assert {night.criteria[name].margin for name in changed} == {1.1}


def test_a_policy_without_that_margin_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gates.yaml").write_text("criteria: {}\n", "utf-8")
    script = GITHUB / "scripts" / "nightly_policy.py"
    command = [sys.executable, "-P", script, tmp_path, tmp_path / "night"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, (tmp_path / "night").exists()) == (1, False)


def test_the_nightly_load_profiles_exist() -> None:
    from pytest_phase5.load.profiles import PROFILES

    nightly = yaml.safe_load((GITHUB / "workflows" / "nightly.yml").read_text("utf-8"))
    asked = nightly["jobs"]["load"]["strategy"]["matrix"]["profile"]
    assert set(asked) == set(PROFILES) - {"regression"}  # which needs a baseline


def test_what_init_writes_is_ours_and_keeps_to_the_rules() -> None:
    project = ROOT / "pytest_phase5" / "project" / ".github"
    action = Path("actions", "phase5-gate", "action.yml")
    assert (project / action).read_bytes() == (GITHUB / action).read_bytes()
    path = project / "workflows" / "phase5-gate.yml"
    assert list(of_workflow("gate", yaml.safe_load(path.read_text("utf-8")))) == []
    assert used(project) <= pins()
    succeeds([tool("actionlint"), "-no-color", path])


@pytest.mark.parametrize("name", ["phase5-gate", "apply-stage"])
def test_every_input_and_output_is_in_the_documentation(name: str) -> None:
    page = (ROOT / "docs/phase5/runbooks/github-actions.md").read_text("utf-8")
    action = yaml.safe_load((GITHUB / "actions" / name / "action.yml").read_text("utf-8"))
    table = page[page.index(f"| input of `{name}`") :]
    rows = re.findall(r"^\| `([a-z-]+)` \| (?:`([^`]*)`|(required))? ?\|$", table, re.MULTILINE)
    found = {row: given or needed for row, given, needed in rows[: len(action["inputs"])]}
    assert found == {
        key: "required" if given.get("required") else str(given["default"])
        for key, given in action["inputs"].items()
    }
    outputs = re.findall(r"`(\w+)`", table[table.index("Outputs:") :].split(". ")[0])
    assert outputs == list(action["outputs"])


def test_every_variable_of_the_workflows_is_in_the_documentation() -> None:
    page = (ROOT / "docs/phase5/runbooks/github-actions.md").read_text("utf-8")
    texts = "".join(path.read_text("utf-8") for path in WORKFLOWS)
    named = set(re.findall(r"(?:vars|secrets)\.(\w+)", texts))
    assert named == set(re.findall(r"^ +\| `(PHASE5_\w+)` \|", page, re.MULTILINE))
