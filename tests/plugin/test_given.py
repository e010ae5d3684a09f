"""Evidence that others bring to a gate, from the command line to the verdict."""

import datetime as dt
from typing import Any

import pytest

from gates.cli import verify
from gates.earlier import EARLIER_FILE, read_earlier

pytest_plugins = ["pytester"]

ITEMS = """
import pytest

@pytest.mark.slo("answers")
def test_answers(mlx_engine, evidence):
    evidence.serves(mlx_engine)
    evidence.check("answers", True)
"""


@pytest.fixture
def rules(project: Any) -> Any:
    """A project whose door asks for the reports of other suites as well."""
    path = project.path / "config" / "gates.yaml"
    suite = "{kind: invariant, measure: suite, covers: project, elsewhere: true}"
    text = path.read_text().replace("enter: [answers,", "enter: [answers, regression_green,")
    path.write_text(text.replace("  tests_green:", f"  regression_green: {suite}\n  tests_green:"))
    project.write(test_it=ITEMS)
    return project


def report(project: Any, *names: str, commit: str = "c0ffee") -> str:
    """A JUnit report in which these tests passed just now, and the option that gives it."""
    now = dt.datetime.now(dt.UTC).isoformat()
    cases = "".join(f'<testcase classname="A" name="{name}"/>' for name in names)
    (project.path / "api.xml").write_text(
        f'<testsuites><testsuite name="api" timestamp="{now}"><properties>'
        f'<property name="phase5.commit" value="{commit}"/></properties>{cases}</testsuite>'
        "</testsuites>"
    )
    return f"--phase5-evidence={project.path / 'api.xml'}"


def told(project: Any) -> tuple[str, str, str]:
    verdict = project.verdict()
    (row,) = [row for row in verdict["criteria"] if row["id"] == "regression_green"]
    return verdict["verdict"], row["outcome"], row["reason"]


def test_a_report_of_this_build_promotes_and_is_the_measure_of_the_next(rules: Any) -> None:
    assert rules.gate(report(rules, "x", "y")).ret == 0
    assert told(rules)[:2] == ("promote", "pass")
    config = rules.path / "config" / "runtime.yaml"
    assert verify(rules.report / "verdict.json", config=config) == 0
    for _ in range(2):  # judging again does not make it come back
        assert rules.gate(report(rules, "x")).ret == 1
        verdict, outcome, reason = told(rules)
        assert (verdict, outcome) == ("hold", "no_data")
        assert "passed at the last verdict and did not now: api::A::y" in reason
        assert read_earlier(rules.report / EARLIER_FILE) == {"api::A::x", "api::A::y"}
    assert rules.gate(report(rules, "x", "y")).ret == 0


@pytest.mark.parametrize(
    ("names", "commit", "outcome"),
    [(("x",), "other", "invalid"), ((), "c0ffee", "no_data")],
    ids=["another build", "empty"],
)
def test_a_report_that_shows_nothing_holds(
    rules: Any, names: tuple[str, ...], commit: str, outcome: str
) -> None:
    assert rules.gate(report(rules, *names, commit=commit)).ret == 1
    assert told(rules)[:2] == ("hold", outcome)


def test_without_a_report_the_gate_holds(rules: Any) -> None:
    assert rules.gate().ret == 1
    assert told(rules)[:2] == ("hold", "no_data")


def test_a_hook_brings_reports_as_well(rules: Any) -> None:
    report(rules, "x")
    rules.write(
        conftest=f"""
        def pytest_phase5_evidence(config, criterion):
            return [{str(rules.path / "api.xml")!r}] if criterion == "regression_green" else []
        """
    )
    assert rules.gate().ret == 0
    assert told(rules)[:2] == ("promote", "pass")
