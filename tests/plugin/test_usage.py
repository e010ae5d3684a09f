"""Bad input: one line that says what was given and what is allowed, status 4, nothing touched."""

from typing import Any

import pytest

pytest_plugins = ["pytester"]

SLO = '@pytest.mark.slo("tests_green")\ndef test_it(): pass\n'


def marked(text: str) -> str:
    return f"import pytest\n\n{text}\ndef test_it(): pass\n"


def errors(result: pytest.RunResult) -> list[str]:
    lines = [*result.errlines, *result.outlines]
    return [line for line in lines if line.startswith("ERROR: ")]


def assert_refused(project: Any, result: pytest.RunResult, *words: str) -> None:
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = errors(result)
    for word in words:
        assert word in line
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert [path.name for path in project.report.iterdir()] == ["verdict.json"]
    assert '"promote"' in (project.report / "verdict.json").read_text()


OPTIONS = {
    "stage": (["--phase5-gate=canery"], "'canery'", "canary, early, mid, full"),
    "from": (["--phase5-from=mid"], "'mid'", "off"),
    "flag": (["--phase5-flags=off,governor"], "'governor'", "adaptive_governor"),
    "flag twice": (["--phase5-flags=all,all"], "twice"),
    "empty flag": (["--phase5-flags=off,"], "--phase5-flags"),
    "no flag to judge": (["--phase5-flags=off"], "no flag to judge"),
    "flag that stands elsewhere": (["--phase5-gate=mid"], "stands at off", "early or mid"),
    "model": (["--phase5-model="], "--phase5-model"),
    "prometheus": (["--phase5-prometheus=localhost:9090"], "'localhost:9090'", "http://"),
    "engine url": (["--phase5-engine-url=127.0.0.1"], "'127.0.0.1'", "http://"),
    "engine command": (["--phase5-engine-command='open"], "'open"),
    "start seconds": (["--phase5-start-seconds=-1"], "'-1'", "above 0"),
    "missing configuration": (["--phase5-config=nowhere.yaml"], "nowhere.yaml", "cannot be read"),
}


@pytest.mark.parametrize("case", OPTIONS.values(), ids=OPTIONS)
def test_option_that_is_not_allowed(project: Any, case: Any) -> None:
    options, *words = case
    project.lie()
    project.write(test_it="def test_it(): pass")
    assert_refused(project, project.gate(*options), *words)


FILES = {
    "empty": ("runtime.yaml", "", "empty"),
    "not YAML": ("runtime.yaml", "a: [", "not YAML"),
    "unknown key": ("runtime.yaml", "phase4_rolout: {}", "phase4_rolout", "phase4_rollout"),
    "wrong type": ("runtime.yaml", "generation: many", "generation", "'many'"),
    "empty policy": ("gates.yaml", "", "empty"),
    "broken policy": ("gates.yaml", "criteria: 3\n", "criteria"),
}


@pytest.mark.parametrize("case", FILES.values(), ids=FILES)
def test_configuration_that_cannot_serve(project: Any, case: Any) -> None:
    name, text, *words = case
    project.lie()
    project.write(test_it="def test_it(): pass")
    (project.path / "config" / name).write_text(text)
    result = project.gate()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = errors(result)
    assert name in lines[0]
    for word in words:
        assert word in lines[0]
    assert [path.name for path in project.report.iterdir()] == ["verdict.json"]


MARKS = {
    "no criterion": ("@pytest.mark.slo", "slo()", "criterion"),
    "unknown criterion": ('@pytest.mark.slo("speed")', "'speed'", "ttft_p95_ms"),
    "unknown argument": ('@pytest.mark.slo("answers", most=1)', "most=1", "max"),
    "bound that is no number": ('@pytest.mark.slo("ttft_p95_ms", max="1")', "'1'", "a number"),
    "looser bound": ('@pytest.mark.slo("ttft_p95_ms", max=600)', "600", "at most 550"),
    "bound without a number": ('@pytest.mark.slo("answers", max=1)', "no max and no min"),
    "unknown flag": ('@pytest.mark.flag_set("http3")', "'http3'", "http2_transport"),
    "flags that are no text": ("@pytest.mark.flag_set(3)", "3", "a name"),
    "empty model": ('@pytest.mark.flag_set("all", model="")', "model", "a name"),
    "misspelt experiment": (
        '@pytest.mark.chaos("runtime-kil")',
        "chaos('runtime-kil')",
        "allowed: runtime-kill, network-latency",
    ),
    "bare chaos under a gate": ("@pytest.mark.chaos", "chaos()", "experiment"),
    "bare load under a gate": ("@pytest.mark.load", "load()", "profile"),
    "flaky": ('@pytest.mark.flaky\n@pytest.mark.slo("answers")', "flaky", "none"),
    "xfail": ('@pytest.mark.xfail\n@pytest.mark.slo("answers")', "xfail", "none"),
}


@pytest.mark.parametrize("case", MARKS.values(), ids=MARKS)
def test_marker_that_is_not_valid(project: Any, case: Any) -> None:
    mark, *words = case
    project.lie()
    project.pytester.makeconftest(
        "def pytest_configure(config): config.addinivalue_line('markers', 'flaky: repeats')"
    )
    project.write(test_it=marked(mark))
    assert_refused(project, project.gate(), "test_it.py::test_it", *words)


@pytest.mark.parametrize("name", ["unknown criterion", "xfail"])
def test_marker_that_is_not_valid_under_xdist(project: Any, name: str) -> None:
    mark, *words = MARKS[name]
    project.lie()
    project.write(test_it=marked(mark))
    assert_refused(project, project.gate("-n2", processes=True), "test_it.py::test_it", *words)


def test_option_that_is_not_allowed_under_xdist(project: Any) -> None:
    project.lie()
    project.write(test_it="def test_it(): pass")
    result = project.run("--phase5-gate=canery", "-n2", processes=True)
    assert_refused(project, result, "'canery'")


def test_reruns_of_an_slo_test_are_refused(project: Any) -> None:
    project.lie()
    project.write(test_it="import pytest\n" + SLO)
    assert_refused(project, project.gate("--reruns=2"), "reruns")


def test_second_mistake_is_counted_on_the_same_line(project: Any) -> None:
    project.lie()
    project.write(test_it=marked("@pytest.mark.slo"), test_other=marked("@pytest.mark.chaos"))
    assert_refused(project, project.gate(), "(and 1 more)")


def test_path_that_does_not_exist_leaves_the_report_alone(project: Any) -> None:
    project.lie()
    result = project.gate("test_nowhere.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [path.name for path in project.report.iterdir()] == ["verdict.json"]


def test_report_that_is_a_file_is_refused(project: Any) -> None:
    project.lie()
    (project.path / "taken").write_text("")
    assert_refused(project, project.gate("--phase5-report=taken"), "taken", "not a folder")


def test_wrong_ini_value_names_the_option(project: Any) -> None:
    project.lie()
    with (project.path / "tox.ini").open("a") as ini:
        ini.write("\nphase5_flags = http3\n")
    project.write(test_it="def test_it(): pass")
    result = project.run()
    assert_refused(project, result, "--phase5-flags", "'http3'")


def test_foreign_engine_package_names_both_paths(project: Any) -> None:
    project.lie()
    project.pytester.mkpydir("engine")
    project.write(test_it="def test_it(): pass")
    # `python -m pytest` puts the working folder first.
    result = project.pytester.run(
        __import__("sys").executable, "-m", "pytest", "--phase5-gate=canary"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = errors(result)
    assert str(project.path / "engine") in line
