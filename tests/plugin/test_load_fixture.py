"""`@pytest.mark.load` and the fixture `load`: a profile inside a test."""

import json
import shlex
import sys
from typing import Any

import pytest

pytest_plugins = ["pytester"]

SERVE = [sys.executable, "-P", "-m", "pytest_phase5.cli", "serve"]
REAL = f"--phase5-engine-command={shlex.join(SERVE)}"

PRESSED = """
import pytest

@pytest.mark.slo("error_rate")
@pytest.mark.load("soak")
@pytest.mark.flag_set("ttft_pipeline", model="tiny")
def test_it(load):
    result = load()
    assert result.complete
    assert [part.part.name for part in result.parts] == ["soak"]
"""

#: Locust's plugin takes --host as well: two such plugins stop pytest, ours is none of them.
HOST = """
def pytest_addoption(parser):
    parser.addoption("--host")
"""


def test_a_profile_brings_evidence_with_its_name_and_time_scale(project: Any) -> None:
    project.write(conftest=HOST, test_it=PRESSED)
    result = project.gate(REAL, "--phase5-time-scale=0.0001", "--host=somewhere", processes=True)
    assert "test_it" in result.stdout.str()
    (header,) = project.evidence()
    assert (header["profile"], header["time_scale"]) == ("soak", 0.0001)
    rows = [
        json.loads(line)
        for line in next((project.report / "evidence").glob("*.jsonl")).read_text().splitlines()
    ]
    assert any("usage" in row for row in rows)
    outcomes = {row["sample"]["outcome"] for row in rows if "sample" in row}
    assert outcomes == {"ok"}
    result.stdout.fnmatch_lines(["*soak: * requests, * in flight*"])


@pytest.mark.parametrize("share", ["0", "1.5", "-1", "much", "nan"])
def test_a_time_scale_is_a_share(project: Any, share: str) -> None:
    project.write(test_it="def test_it(): pass")
    result = project.run(f"--phase5-time-scale={share}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--phase5-time-scale: '{share}'; allowed: a share above 0*"])


def test_a_profile_that_does_not_exist_is_named_at_collection(project: Any) -> None:
    project.write(test_it='import pytest\n@pytest.mark.load("spice")\ndef test_it(): pass\n')
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*profile 'spice'; allowed: ttft, *spike*"])


def test_the_fixture_without_a_profile_says_what_is_missing(project: Any) -> None:
    project.write(test_it="def test_it(load): pass")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'load' without a profile; allowed: @pytest.mark.load*"])
