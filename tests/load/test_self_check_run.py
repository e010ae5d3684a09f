"""The generator's measurement of itself, carried out."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_phase5.load import driver as driver_module
from pytest_phase5.load.driver import run_plan
from pytest_phase5.load.plans import open_loop
from pytest_phase5.load.stub_process import StubProcess
from pytest_phase5.load.workload import SHORT

#: A limit that a noisy machine keeps: 5 % of it are seconds.
GENEROUS = 60.0
#: One that nothing keeps: 5 % of it are less than a packet takes.
IMPOSSIBLE = 1e-5
QUICK = replace(SHORT, model="ok")


@pytest.fixture(autouse=True)
def _forgets() -> Iterator[None]:
    driver_module._calibrated.cache_clear()
    yield
    driver_module._calibrated.cache_clear()


def test_a_generator_within_its_error_goes_on_and_is_measured_once(
    stub: StubProcess, tmp_path: Path
) -> None:
    for number in range(2):
        plan = open_loop(
            stub.url(), rate=20, requests=10, seed=number, workload=QUICK, driver="http2",
            schedule="constant", lag_limit=10.0,
        )  # fmt: skip
        result = run_plan(plan, tmp_path / str(number), self_check=GENEROUS)
        assert result.valid, result.invalid_reason
        assert len(result.samples) == 10
    counted = driver_module._calibrated.cache_info()
    assert (counted.misses, counted.hits) == (1, 1)


def test_an_error_beyond_five_percent_of_the_limit_makes_the_run_invalid_with_both_numbers(
    stub: StubProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_phase5.load.self_check.LOOKS", 1)  # a further one says the same
    plan = open_loop(stub.url(), rate=20, requests=10, seed=1, workload=QUICK, schedule="constant")
    result = run_plan(plan, tmp_path / "run", self_check=IMPOSSIBLE)
    assert (result.valid, result.samples) == (False, ())
    told = re.fullmatch(
        r"self-check: TTFT off by [\d.]+ ms, allowed 0\.0 ms \(5% of 0\.01 ms, median, n=\d+\)",
        result.invalid_reason,
    )
    assert told, result.invalid_reason
    assert not stub.seen()  # the plan itself was not begun
