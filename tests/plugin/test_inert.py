"""Who does not use the plugin does not notice it."""

import subprocess
import sys
from typing import Any

import pytest

pytest_plugins = ["pytester"]

HEAVY = (
    "engine mlx mlx_lm numpy pydantic httpx starlette granian locust gates chaos yaml "
    "junitparser typer rich prometheus_client jinja2 toxiproxy aiohttp psutil scipy msgspec "
    "tokenizers"
)

BARE = """
import pytest

@pytest.mark.load
def test_load(): pass

@pytest.mark.chaos
def test_chaos(): pass
"""


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    code = f"import sys, pytest_phase5.plugin; print(*(set({HEAVY.split()!r}) & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True)
    assert answer.stdout.decode().split() == []


def test_session_without_us_imports_nothing_heavy_and_shows_nothing(project: Any) -> None:
    project.write(
        test_it=f"import sys\ndef test_it(): assert not set({HEAVY.split()!r}) & set(sys.modules)"
    )
    result = project.pytester.runpytest_subprocess("-p", "no:pyreqwest")
    result.assert_outcomes(passed=1)
    assert "phase5" not in "".join(
        line for line in result.outlines if not line.startswith(("plugins:", "rootdir:"))
    ).replace(str(project.path), "")
    assert not project.report.exists()


def test_bare_labels_of_others_are_left_alone(project: Any) -> None:
    project.write(test_it=BARE)
    project.run().assert_outcomes(passed=2)


def test_markers_show_their_signatures(project: Any) -> None:
    result = project.run("--markers")
    result.stdout.fnmatch_lines(
        [
            "@pytest.mark.slo(criterion: str, *, max: float | None = None, min: *",
            "@pytest.mark.flag_set(?names: str, model: str | None = None): *",
            "@pytest.mark.chaos(experiment: str): *",
            "@pytest.mark.load(profile: str): *",
        ]
    )


def test_help_lists_options_and_ini_twins_but_no_twin_of_the_gate(project: Any) -> None:
    text = project.run("--help").stdout.str()
    assert "--phase5-gate=STAGE" in text
    assert "phase5_flags (string)" in text
    assert "phase5_gate" not in text


@pytest.mark.parametrize("option", ["--collect-only", "--help", "--markers", "--fixtures"])
def test_what_only_shows_touches_nothing_and_starts_nothing(project: Any, option: str) -> None:
    project.lie()
    project.write(
        test_it="import pytest\n@pytest.mark.slo('answers')\ndef test_it(mlx_engine): pass"
    )
    assert project.gate(option).ret == 0
    assert [path.name for path in project.report.iterdir()] == ["verdict.json"]
    assert project.journal == []


def test_session_without_a_gate_leaves_the_report_alone(project: Any) -> None:
    project.lie()
    project.write(
        test_it=(
            "import pytest\n@pytest.mark.slo('answers')\n"
            "def test_it(mlx_engine, evidence): evidence.check('a', ok=True)\n"
        )
    )
    project.run().assert_outcomes(passed=1)
    assert [path.name for path in project.report.iterdir()] == ["verdict.json"]


def test_without_a_gate_xfail_means_what_it_always_meant(project: Any) -> None:
    project.write(
        test_it=(
            "import pytest\n@pytest.mark.xfail\n@pytest.mark.slo('answers')\n"
            "def test_it(): assert False\n"
        )
    )
    result = project.run()
    result.assert_outcomes(xfailed=1)
    assert result.ret == 0


def test_unmarked_tests_are_counted_and_left_out_of_a_gate(project: Any) -> None:
    project.write(test_it="def test_it(): assert False")
    result = project.gate()
    result.assert_outcomes(deselected=1)
    result.stdout.fnmatch_lines(["1 tests that this gate does not ask for were deselected"])


def test_unmarked_tests_that_were_named_run_under_a_gate(project: Any) -> None:
    project.write(test_it="def test_it(): pass")
    project.gate("test_it.py").assert_outcomes(passed=1)


def test_option_wins_over_ini_and_ini_over_default(project: Any) -> None:
    with (project.path / "tox.ini").open("a") as ini:
        ini.write("\nphase5_flags = all\n")
    project.write(test_it="def test_it(mlx_engine): pass")
    project.run("-v").stdout.fnmatch_lines(["*test_it[[]all] PASSED*"])
    project.run("-v", "--phase5-flags=off").stdout.fnmatch_lines(["*test_it[[]off] PASSED*"])
