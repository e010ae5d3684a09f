"""What a test records is written for each attempt, with where it came from."""

from typing import Any

import pytest

from gates.evidence import Measurement, read_measurement

pytest_plugins = ["pytester"]

SAMPLES = """
import pytest
from gates.samples import Outcome, Sample

def samples(count=20, ttft=0.1, arm="treatment", failed=0):
    return [
        Sample(
            index=i, arm=arm, block=i, scheduled=float(i), sent=float(i), first_token=i + ttft,
            end=i + 2 * ttft, outcome=Outcome.FAILED if i < failed else Outcome.OK, flags="off",
        )
        for i in range(count)
    ]
"""


def measurements(project: Any) -> list[Measurement]:
    return [read_measurement(path) for path in (project.report / "evidence").glob("*.jsonl")]


def body(*lines: str, marks: str = '@pytest.mark.slo("answers")') -> str:
    text = "\n".join(f"    {line}" for line in lines)
    return f"{SAMPLES}\n{marks}\ndef test_it(mlx_engine, evidence):\n{text}\n"


@pytest.mark.parametrize("end", ["pass", "assert False", "pytest.skip('no')", "pytest.xfail('no')"])
def test_evidence_is_written_however_the_test_ends(project: Any, end: str) -> None:
    project.write(test_it=body("evidence.record(samples(), treatment=mlx_engine)", end))
    project.gate()
    (measurement,) = measurements(project)
    assert len(measurement.samples) == 20
    assert measurement.criteria == ("answers",)
    assert measurement.item == "test_it.py::test_it[ttft_pipeline]"
    assert (measurement.attempt, measurement.workers) == (1, 1)
    engine = measurement.arms["treatment"]
    assert (engine.flag_set, engine.model, engine.commit) == ("ttft_pipeline", "stub", "c0ffee")
    assert measurement.run == project.attempts()[0]["run"]


def test_an_experiment_is_written_with_the_engine_that_it_broke(project: Any) -> None:
    journal = (
        'Journal(experiment="runtime-kill", steady_before=True, steady_after=True, proven=True, '
        'lost_streams=0, verdict=ChaosVerdict.PASS, recovery_seconds=1.5, requested={"a": 1}, '
        'read_back={"a": 1}, measured={"b": 2})'
    )
    project.write(
        test_it=body(
            "from gates.journal import ChaosVerdict, Journal",
            f"evidence.record_journal({journal}, treatment=mlx_engine)",
        )
    )
    project.gate()
    (measurement,) = measurements(project)
    assert [j.experiment for j in measurement.journals] == ["runtime-kill"]
    assert measurement.arms["treatment"].flag_set == "ttft_pipeline"


def test_second_recording_counts_on(project: Any) -> None:
    project.write(
        test_it=body(
            "evidence.record(samples(3), treatment=mlx_engine)",
            "evidence.record(samples(2), treatment=mlx_engine)",
        )
    )
    project.gate()
    (measurement,) = measurements(project)
    assert [(s.index, s.block) for s in measurement.samples] == [(i, i) for i in range(5)]


def test_each_pair_of_engines_has_a_file_and_checks_are_in_one(project: Any) -> None:
    project.write(
        test_it=SAMPLES + "@pytest.mark.slo('answers')\n"
        "def test_it(engine_pair, evidence):\n"
        "    a, b = engine_pair\n"
        "    evidence.record(samples(), treatment=a, control=b)\n"
        "    evidence.record(samples(), treatment=b)\n"
        "    evidence.check('once', ok=True)\n"
    )
    project.gate()
    found = sorted(measurements(project), key=lambda m: len(m.arms))
    assert [sorted(m.arms) for m in found] == [["treatment"], ["control", "treatment"]]
    assert sum(len(m.checks) for m in found) == 1


def test_load_run_that_is_not_valid_says_so(project: Any) -> None:
    project.write(
        test_it=body(
            "class Result:",
            "    samples, valid, invalid_reason = samples(), False, 'generator fell behind'",
            "evidence.record(Result, treatment=mlx_engine)",
        )
        .replace("samples, valid", "valid")
        .replace("samples(), False", "False")
        .replace(
            "    evidence.record(Result",
            "    Result.samples = samples()\n    evidence.record(Result",
        )
    )
    project.gate()
    (measurement,) = measurements(project)
    assert (measurement.valid, measurement.invalid_reason) == (False, "generator fell behind")


def test_samples_of_an_arm_without_an_engine_are_refused(project: Any) -> None:
    project.write(test_it=body("evidence.record(samples(arm='control'), treatment=mlx_engine)"))
    project.run().stdout.fnmatch_lines(
        ["*ValueError: samples of arm 'control'; allowed: treatment"]
    )


def test_no_evidence_without_a_recording(project: Any) -> None:
    project.write(test_it=body("pass"))
    project.gate()
    assert measurements(project) == []


BOUNDS = {
    "kept": ("ttft_p95_ms", "max=150", "", None),
    "broken": ("ttft_p95_ms", "max=90", "", "ttft_p95_ms 100 > 90 (n=20)"),
    "rate kept": ("error_rate", "max=0.001", "", None),
    "rate broken": ("error_rate", "max=0.001", "failed=1", "error_rate 0.05 > 0.001 (n=20)"),
    "floor broken": ("ttft_p95_ms", "min=200", "", "ttft_p95_ms 100 < 200 (n=20)"),
}


@pytest.mark.parametrize("case", BOUNDS.values(), ids=BOUNDS)
def test_bound_of_a_marker_is_held_against_what_was_recorded(project: Any, case: Any) -> None:
    criterion, bound, how, message = case
    project.write(
        test_it=body(
            f"evidence.record(samples({how}), treatment=mlx_engine)",
            marks=f'@pytest.mark.slo("{criterion}", {bound})',
        )
    )
    result = project.run()
    result.assert_outcomes(passed=int(message is None), failed=int(message is not None))
    if message:
        result.stdout.fnmatch_lines([f"*SloBroken: {message}"])


def test_bound_without_a_recording_fails(project: Any) -> None:
    project.write(test_it=body("pass", marks='@pytest.mark.slo("ttft_p95_ms", max=500)'))
    project.run().stdout.fnmatch_lines(["*SloBroken: ttft_p95_ms: nothing recorded*"])


def test_broken_bound_is_an_ordinary_failure_to_xfail(project: Any) -> None:
    project.write(
        test_it=body(
            "evidence.record(samples(), treatment=mlx_engine)",
            marks='@pytest.mark.xfail\n@pytest.mark.slo("ttft_p95_ms", max=90)',
        )
    )
    result = project.run()
    result.assert_outcomes(xfailed=1)
    assert result.ret == 0


def test_add_on_requires_a_criterion(project: Any) -> None:
    project.write(
        test_it=body("evidence.serves(mlx_engine)", "evidence.check('a', ok=True)"),
        conftest="def pytest_phase5_criteria(config): return ['error_rate']\n",
    )
    assert project.gate().ret == 1
    rows = {row["id"]: row["outcome"] for row in project.verdict()["criteria"]}
    assert rows["answers"] == "pass"
    assert rows["error_rate"] == "no_data"


def test_add_on_brings_evidence(project: Any) -> None:
    (project.path / "theirs.jsonl").write_text("torn\n")
    project.write(
        test_it=body("evidence.serves(mlx_engine)", "evidence.check('a', ok=True)"),
        conftest="""
            from pathlib import Path
            def pytest_phase5_evidence(config, criterion):
                return [Path("theirs.jsonl")] if criterion == "answers" else []
        """,
    )
    assert project.gate().ret == 1
    assert len(list((project.report / "evidence").glob("given-theirs-*.jsonl"))) == 1
