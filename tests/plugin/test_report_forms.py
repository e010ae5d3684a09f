"""Each gated session leaves a report, and all its forms state the same numbers."""

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

import pytest
from junitparser import JUnitXml

from gates.actions.outcome import concluded
from gates.actions.summary import summary
from gates.shown import number

pytest_plugins = ["pytester"]

POLICY = """
criteria:
  error_rate:
    kind: ceiling
    measure: error_rate
    limit: 20 %
    critical: true
    attribution: false
  tests_green:
    kind: invariant
    measure: attempts
    covers: project
stages:
  canary: {percentage: 1, soak_hours: 24, enter: [error_rate, tests_green]}
  early: {percentage: 10, soak_hours: 48}
  mid: {percentage: 50, soak_hours: 72}
  full: {percentage: 100, soak_hours: 0}
"""

#: Requests of which some failed: enough to tell, or too few.
ITEMS = """
import pytest
from gates.samples import Outcome, Sample

def request(index, ok):
    return Sample(index=index, arm="treatment", block=0, scheduled=index, sent=index,
                  first_token=index + 0.1 if ok else None, end=index + 0.2,
                  outcome=Outcome.OK if ok else Outcome.FAILED, flags="ttft_pipeline")

@pytest.mark.slo("error_rate")
@pytest.mark.slo("tests_green")
@pytest.mark.flag_set("ttft_pipeline")
def test_requests(mlx_engine, evidence):
    samples = [request(index, ok=index >= {failed}) for index in range({n})]
    evidence.record(samples, treatment=mlx_engine)
"""

#: Requests and failures of each verdict.
SESSIONS = {"promote": (40, 0), "hold": (4, 0), "rollback": (40, 30)}

Numbers = Mapping[str, tuple[str, str, str, str]]


class Cells(HTMLParser):
    """The numbers of each criterion of the page, by the names that its cells have."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: dict[str, dict[str, str]] = {}
        self._fact = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if name := named.get("data-criterion"):
            self.found[name] = {}
        self._fact = named.get("data-fact") or "" if tag == "td" else ""

    def handle_data(self, data: str) -> None:
        if self._fact:
            list(self.found.values())[-1][self._fact] = data

    def numbers(self) -> Numbers:
        names = ("estimate", "interval", "limit", "n")
        return {
            name: (facts[names[0]], facts[names[1]], facts[names[2]], facts[names[3]])
            for name, facts in self.found.items()
        }


def of_verdict(document: Mapping[str, Any]) -> Numbers:
    return {
        row["id"]: (
            number(row["estimate"]),
            " to ".join(map(number, row["interval"])) if row["interval"] else "-",
            number(row["limit"]),
            str(row["n"]),
        )
        for row in document["criteria"]
    }


def of_terminal(lines: list[str]) -> Numbers:
    """Columns are two spaces or more apart: id, outcome, estimate, limit, n, interval, reason."""
    start = next(n for n, line in enumerate(lines) if line.startswith("criterion  "))
    rows = [re.split(r" {2,}", line, maxsplit=6) for line in lines[start + 1 : start + 3]]
    return {row[0]: (row[2], row[5], row[3], row[4]) for row in rows}


def of_markdown(text: str) -> Numbers:
    """Columns: id, outcome, estimate, interval, limit, n and others."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip().replace("\\", "") for cell in line.split("|")] for line in lines]
    known = {"error_rate", "tests_green"}
    return {row[1]: (row[3], row[4], row[5], row[6]) for row in rows if row[1] in known}


def of_junit(path: str) -> Numbers:
    (suite,) = [suite for suite in JUnitXml.fromfile(path) if suite.name == "phase5.criteria"]
    found = {}
    for case in suite:
        told = dict(line.split(": ") for line in case.system_out.splitlines())
        found[case.name] = (told["estimate"], told["interval"], told["limit"], told["n"])
    return found


@pytest.mark.parametrize("decision", SESSIONS)
def test_all_forms_of_a_verdict_state_the_same_numbers(project: Any, decision: str) -> None:
    n, failed = SESSIONS[decision]
    (project.path / "config" / "gates.yaml").write_text(POLICY)
    project.write(test_it=ITEMS.replace("{n}", str(n)).replace("{failed}", str(failed)))
    result = project.gate()
    verdict = project.verdict()
    assert verdict["verdict"] == decision, result.outlines
    expected = of_verdict(verdict)
    assert expected["error_rate"][1] != "-"
    page = (project.report / "report.html").read_text("utf-8")
    step = summary(concluded(int(result.ret), (project.report / "verdict.json").read_text()), {})
    assert Cells(page).numbers() == expected
    assert of_terminal(result.outlines) == expected
    assert of_markdown((project.report / "summary.md").read_text("utf-8")) == expected
    assert of_markdown("\n".join(step)) == expected
    assert of_junit(str(project.report / "junit.xml")) == expected
    assert "when this page was written: identical." in page


def test_a_report_that_cannot_be_written_is_loud_and_moves_no_verdict(project: Any) -> None:
    (project.path / "config" / "gates.yaml").write_text(POLICY)
    project.write(test_it=ITEMS.replace("{n}", "40").replace("{failed}", "0"))
    project.report.mkdir()
    (project.report / "report.html.partial").mkdir()
    result = project.gate()
    assert result.ret == 0
    assert project.verdict()["verdict"] == "promote"
    result.stdout.fnmatch_lines(["phase5: the report was not written: *report.html*"])
