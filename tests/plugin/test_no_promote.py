"""However a required test goes missing, the verdict is not promote and the status is not 0."""

from typing import Any

import pytest

pytest_plugins = ["pytester"]

ANSWERS = """
import pytest

@pytest.mark.slo("answers")
def test_answers(mlx_engine, evidence):
    evidence.serves(mlx_engine)
    evidence.check("answers", mlx_engine.chat("hello") == "echo hello")
"""

HEALTHY = ANSWERS + '\n@pytest.mark.slo("tests_green")\ndef test_green():\n    pass\n'


def green(body: str, decorator: str = "") -> str:
    """The healthy project with another second test."""
    return f'{ANSWERS}\n{decorator}\n@pytest.mark.slo("tests_green")\n{body}\n'


def test_healthy_project_is_promoted(project: Any) -> None:
    project.lie()
    project.write(test_it=HEALTHY)
    result = project.gate()
    assert result.ret == 0
    assert project.verdict()["verdict"] == "promote"
    assert project.verdict()["dry_run"] is False
    kinds = [row["kind"] for row in project.attempts()]
    assert kinds == ["session", "planned", "planned", *["phase"] * 6, "end"]


def test_dry_run_says_so(project: Any) -> None:
    project.write(test_it=HEALTHY)
    assert project.gate("--phase5-from=off").ret == 0
    assert project.verdict()["dry_run"] is True


SOURCES = {
    "failure": green("def test_green(): assert False"),
    "skip mark": green("def test_green(): pass", "@pytest.mark.skip(reason='no MLX here')"),
    "skipif mark": green("def test_green(): pass", "@pytest.mark.skipif(True, reason='none')"),
    "skip inside": green("def test_green(): pytest.skip('no MLX here')"),
    "skip in a fixture": green(
        "def test_green(gpu): pass", "@pytest.fixture\ndef gpu(): pytest.skip('none')\n"
    ),
    "skip in teardown": green(
        "def test_green(gpu): pass",
        "@pytest.fixture\ndef gpu():\n    yield\n    pytest.skip('none')\n",
    ),
    "xfail inside": green("def test_green(): pytest.xfail('known')"),
    "xfail added at run time": green(
        "def test_green(request):\n    request.node.add_marker(pytest.mark.xfail)\n    assert False"
    ),
    "xpass": green(
        "def test_green(request): request.node.add_marker(pytest.mark.xfail(strict=False))"
    ),
    "failing teardown": green(
        "def test_green(gpu): pass", "@pytest.fixture\ndef gpu():\n    yield\n    assert False\n"
    ),
    "skipped subtest": green(
        "def test_green(subtests):\n    with subtests.test('one'):\n        pytest.skip('none')"
    ),
    "no evidence": HEALTHY.replace("    evidence.check", "    str").replace(
        "    evidence.serves(mlx_engine)\n", ""
    ),
    "broken check": HEALTHY.replace("echo hello", "something else"),
    "module-level skip": "import pytest\npytest.skip('none', allow_module_level=True)\n" + HEALTHY,
    "collection error": HEALTHY + "\nimport does_not_exist\n",
    "empty file": "",
    "exit": green("def test_green(): pytest.exit('enough', returncode=0)"),
    "other engine answers": HEALTHY.replace(
        "serves(mlx_engine)",
        "serves(__import__('dataclasses').replace(mlx_engine, identity=__import__("
        "'dataclasses').replace(mlx_engine.identity, flag_set='off')))",
    ),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_source_without_a_final_pass(project: Any, source: str) -> None:
    project.lie()
    project.write(test_it=source)
    result = project.gate()
    assert result.ret != 0
    assert project.verdict()["verdict"] != "promote"


OPTIONS = {
    "-k": ["-k", "answers"],
    "-m": ["-m", "not slo"],
    "--deselect": ["--deselect", "test_it.py::test_green"],
    "--setup-only": ["--setup-only"],
    "--setup-plan": ["--setup-plan"],
    "--ignore": ["--ignore", "test_it.py"],
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_option_that_takes_a_test_away(project: Any, options: list[str]) -> None:
    project.lie()
    project.write(test_it=HEALTHY)
    result = project.gate(*options)
    assert result.ret != 0
    assert project.verdict()["verdict"] == "hold"


@pytest.mark.parametrize("options", [["-k", "answers"], ["--deselect", "test_it.py::test_green"]])
def test_what_was_taken_away_is_named(project: Any, options: list[str]) -> None:
    project.write(test_it=HEALTHY)
    project.gate(*options)
    taken = [row["item"] for row in project.attempts() if row["kind"] == "deselected"]
    assert taken == ["test_it.py::test_green"]
    reasons = " ".join(row["reason"] for row in project.verdict()["criteria"])
    assert "test_it.py::test_green" in reasons


def test_last_failed_leaves_whole_files_out_and_names_them(project: Any) -> None:
    project.write(test_it=HEALTHY, test_more="def test_more(): assert False\n")
    project.run("test_more.py")
    project.gate("--lf")
    taken = [row["item"] for row in project.attempts() if row["kind"] == "deselected"]
    assert taken == ["test_it.py"]
    assert project.verdict()["verdict"] == "hold"


def test_conftest_that_drops_items_is_seen(project: Any) -> None:
    project.write(
        test_it=HEALTHY,
        conftest="def pytest_collection_modifyitems(items): del items[1:]\n",
    )
    assert project.gate().ret == 1
    assert project.verdict()["verdict"] == "hold"


def test_stopping_at_the_first_failure_holds(project: Any) -> None:
    project.lie()
    project.write(test_a="def test_a(): assert False\n", test_it=HEALTHY)
    assert project.gate("-x", ".").ret == 1
    assert project.verdict()["verdict"] == "hold"
    assert project.attempts()[-1]["kind"] == "end"


def test_empty_collection_keeps_pytests_own_status(project: Any) -> None:
    project.lie()
    assert project.gate().ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert project.verdict()["verdict"] == "hold"


def test_interrupt_holds(project: Any) -> None:
    project.lie()
    project.write(test_it=green("def test_green(): raise KeyboardInterrupt"))
    assert project.gate(processes=True).ret == pytest.ExitCode.INTERRUPTED
    assert project.verdict()["verdict"] == "hold"


def test_crashed_worker_holds(project: Any) -> None:
    project.lie()
    project.write(test_it=green("def test_green():\n    import os\n    os._exit(1)"))
    result = project.gate("-n1", "--max-worker-restart=1", processes=True)
    assert result.ret == 1
    assert project.verdict()["verdict"] == "hold"
    assert "worker_crash" in {row["kind"] for row in project.attempts()}


def test_without_the_plugin_a_gate_is_a_usage_error(project: Any) -> None:
    project.lie()
    project.write(test_it=HEALTHY)
    result = project.run("-p", "no:phase5", "--phase5-gate=canary", processes=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_stale_evidence_of_an_earlier_session_is_removed(project: Any) -> None:
    project.write(test_it=HEALTHY)
    project.gate()
    first = {header["run"] for header in project.evidence()}
    project.gate()
    second = {header["run"] for header in project.evidence()}
    assert len(first) == len(second) == 1
    assert first != second


def test_files_of_others_in_the_report_folder_stay(project: Any) -> None:
    project.lie()
    (project.report / "notes.txt").write_text("mine")
    project.write(test_it=HEALTHY)
    project.gate()
    assert (project.report / "notes.txt").read_text() == "mine"


EVIDENCE = {"corrupt": "{}\nnot json\n", "empty": "", "missing": None}


@pytest.mark.parametrize("content", EVIDENCE.values(), ids=EVIDENCE)
def test_given_evidence_that_cannot_be_read_holds(project: Any, content: str | None) -> None:
    project.write(test_it=HEALTHY)
    if content is not None:
        (project.path / "more.jsonl").write_text(content)
    assert project.gate("--phase5-evidence=more.jsonl").ret == 1
    assert project.verdict()["verdict"] == "hold"


def test_objection_of_an_add_on_holds_and_is_named(project: Any) -> None:
    project.write(
        test_it=HEALTHY,
        conftest="def pytest_phase5_verdict(verdict): return 'a freeze is on'\n",
    )
    assert project.gate().ret == 1
    rows = {row["id"]: row["reason"] for row in project.verdict()["criteria"]}
    assert "a freeze is on" in rows["objection"]
