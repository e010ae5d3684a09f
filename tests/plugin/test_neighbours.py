"""Beside other plugins."""

from typing import Any

import pytest

pytest_plugins = ["pytester"]

ANSWERS = """
import pytest

@pytest.mark.slo("answers")
def test_answers(mlx_engine, evidence):
    evidence.serves(mlx_engine)
    evidence.check("answers", mlx_engine.chat("hello") == "echo hello")

@pytest.mark.slo("tests_green")
def test_green():
    pass
"""


def ini(project: Any, addopts: str = "", more: str = "") -> None:
    """Let pytest load every installed plugin, as it would for a user."""
    text = f"[pytest]\nphase5_suite = false\naddopts = --strict-markers {addopts}\n{more}"
    (project.path / "tox.ini").write_text(text)


def test_workers_of_xdist_share_one_run_and_are_counted(project: Any) -> None:
    project.write(test_it=ANSWERS)
    result = project.gate("-n2", processes=True)
    attempts = project.attempts()
    assert attempts[0]["workers"] == 2
    assert {row["run"] for row in attempts} == {attempts[0]["run"]}
    assert [row["kind"] for row in attempts[1:3]] == ["planned", "planned"]
    assert sum(row["kind"] == "phase" for row in attempts) == 6
    (header,) = project.evidence()
    assert (header["run"], header["workers"]) == (attempts[0]["run"], 2)
    # A yes-or-no demand does not mind the other worker.
    assert result.ret == 0
    assert project.verdict()["verdict"] == "promote"


def test_deselection_in_workers_of_xdist_is_named(project: Any) -> None:
    project.write(test_it=ANSWERS)
    assert project.gate("-n2", "-k", "answers", processes=True).ret == 1
    taken = [row["item"] for row in project.attempts() if row["kind"] == "deselected"]
    assert taken == ["test_it.py::test_green"]


def test_grouped_workers_of_xdist(project: Any) -> None:
    project.write(
        test_it=ANSWERS.replace(
            "import pytest", "import pytest\npytestmark = pytest.mark.xdist_group('one')"
        )
    )
    assert project.gate("-n2", "--dist=loadgroup", processes=True).ret == 0


def test_cov(project: Any) -> None:
    ini(project, "-p no:locust -p no:asyncio")
    project.write(test_it=ANSWERS)
    result = project.gate("--cov=.", processes=True)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*TOTAL*"])


def test_rerunfailures_reports_every_attempt(project: Any) -> None:
    flaky = "tries = []\n\ndef test_flaky():\n    tries.append(1)\n    assert len(tries) > 1\n"
    project.write(test_it=ANSWERS, test_flaky=flaky)
    result = project.gate("--reruns=2", "test_flaky.py", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    rows = [row for row in project.attempts() if row["kind"] == "phase"]
    assert {row["attempt"] for row in rows} == {1, 2}
    assert "rerun" in {row["outcome"] for row in rows}
    assert project.verdict()["verdict"] == "hold"


def test_asyncio(project: Any) -> None:
    ini(
        project,
        "-p no:locust -p no:cov",
        "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n",
    )
    project.write(
        test_it=ANSWERS.replace("def test_green", "async def test_green"),
    )
    assert project.gate(processes=True).ret == 0


def test_locust(project: Any) -> None:
    ini(project, "-p no:asyncio -p no:cov")
    project.write(test_it=ANSWERS)
    assert project.gate(processes=True).ret == 0


def test_a_project_that_defines_host_itself_runs_without_locusts_plugin(project: Any) -> None:
    taken = "def pytest_addoption(parser):\n    parser.addoption('--host')\n"
    ini(project, "-p no:asyncio -p no:cov -p no:locust")
    project.write(test_it=ANSWERS, conftest=taken)
    assert project.gate("--host=here", processes=True).ret == 0


def test_stopping_early_under_xdist_holds(project: Any) -> None:
    project.write(test_it=ANSWERS.replace("    pass", "    assert False"))
    assert project.gate("-n1", "--maxfail=1", processes=True).ret != 0
    assert project.verdict()["verdict"] == "hold"
    assert project.attempts()[-1]["kind"] == "end"


def test_junit_of_the_gate_shows_criteria_and_items(project: Any) -> None:
    from junitparser import JUnitXml

    project.write(test_it=ANSWERS.replace("    pass", "    pytest.skip('none')"))
    project.gate()
    suites = {suite.name: suite for suite in JUnitXml.fromfile(str(project.report / "junit.xml"))}
    criteria = {case.name: case.is_passed for case in suites["phase5.criteria"]}
    assert criteria == {"answers": True, "tests_green": False}
    items = {case.name: case.is_passed for case in suites["phase5.items"]}
    assert items["test_it.py::test_green"] is False


def test_summary_names_the_verdict_and_every_criterion(project: Any) -> None:
    project.write(test_it=ANSWERS)
    project.gate()
    text = (project.report / "summary.md").read_text()
    assert text.startswith("# Gate: promote: off -> canary (ttft_pipeline)")
    assert "| answers | pass |" in text


def test_terminal_rows_are_aligned(project: Any) -> None:
    project.write(test_it=ANSWERS)
    lines = project.gate().outlines
    head = next(line for line in lines if line.startswith("criterion "))
    rows = [line for line in lines if line.startswith(("answers ", "tests_green "))]
    column = head.index("outcome")
    assert [row[column : column + 4] for row in rows] == ["pass", "pass"]


@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_packaged_suite_is_collected_whatever_is_named(project: Any, mode: str) -> None:
    (project.path / "tox.ini").write_text(
        "[pytest]\npython_files = check_*.py\naddopts = -p no:locust -p no:asyncio -p no:cov\n"
    )
    nested = project.pytester.mkdir("deep")
    (nested / "check_mine.py").write_text("def test_mine(): pass\n")
    (project.path / "config" / "gates.yaml").unlink()
    result = project.gate(
        f"--import-mode={mode}", "deep/check_mine.py", "-k", "mine", "--rootdir=deep"
    )
    result.assert_outcomes(passed=1, deselected=result.parseoutcomes()["deselected"])
    planned = [row["item"] for row in project.attempts() if row["kind"] == "planned"]
    assert any("test_flag_sets.py" in item for item in planned)
    assert project.verdict()["verdict"] == "hold"
