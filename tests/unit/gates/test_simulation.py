import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from engine.core.flags import every_flag_set
from gates.policy import load_policy
from gates.simulation.cli import Options, simulate
from gates.simulation.operate import Ended, run
from gates.simulation.scenarios import ONE, SCENARIOS, Counts, Scenario, crossed
from gates.simulation.study import Standing, measured, study
from gates.simulation.traffic import MODELS, Change, traffic
from gates.verdict import Decision

POLICY = load_policy()
FLAG = "ttft_pipeline"


def named(text: str) -> Scenario:
    return next(scenario for scenario in SCENARIOS if text in scenario.name)


def test_four_flags_are_assigned_independently() -> None:
    rates = crossed(0.1, 1_000)
    assert set(rates) == set(every_flag_set())
    assert sum(rates.values()) == pytest.approx(1_000)
    assert sum(r for flags, r in rates.items() if FLAG in flags) == pytest.approx(100)


@pytest.mark.parametrize("model", MODELS)
def test_models_have_the_rates_that_they_state(model: str) -> None:
    rates = {ONE: 60.0, frozenset[str](): 240.0}
    drawn = traffic(MODELS[model], rates, 1_440, Change(), np.random.default_rng(1))
    minutes = drawn.minutes[FLAG]
    assert minutes.control.n.mean() == pytest.approx(240, rel=0.05)
    assert minutes.treatment.n.mean() == pytest.approx(60, rel=0.05)
    over = minutes.control.ttft[:, 9:].sum() / minutes.control.n.sum()
    assert over == pytest.approx(0.05, abs=0.04)  # over 0.5 s; drift moves it about
    assert drawn.cells_until(1_440)["off"][0] == minutes.control.n.sum()


def test_a_run_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    scenario = named("errors 1 % from the start")
    assert run(scenario, POLICY, (1, 2)) == run(scenario, POLICY, (1, 2))
    assert run(scenario, POLICY, (1, 2)) != run(scenario, POLICY, (1, 3))


def test_a_regression_is_rolled_back_and_a_sound_flag_is_not() -> None:
    broken = run(named("errors 5 % from the start"), POLICY, (0, 0))
    sound = run(named("E3: treatment equals control"), POLICY, (0, 0))
    assert broken.rolled_back() == ONE
    assert sound.rolled_back() == frozenset()


def test_an_outage_of_everything_rolls_back_every_flag_in_five_minutes() -> None:
    scenario = named("outage in both arms")
    ended = run(scenario, POLICY, (0, 1))
    assert len(ended.rolled_back()) == 4
    assert ended.minute is not None
    assert ended.minute - scenario.change.since < 5


def ended(decision: Decision, treated: float = 0.0) -> Ended:
    return Ended({FLAG: decision}, 1 if decision is Decision.ROLLBACK else None, treated)


def test_runs_without_a_rollback_count_against_the_median() -> None:
    scenario = replace(named("errors 1 % from the start"), runs=3)
    late = [ended(Decision.ROLLBACK, 100.0), *[ended(Decision.HOLD)] * 20]
    assert measured(scenario, late).standing is Standing.MISSED
    soon = [ended(Decision.ROLLBACK, float(n)) for n in (100, 200, 300)]
    assert measured(scenario, soon).value == 200.0
    assert measured(scenario, soon).standing is Standing.MET


@pytest.mark.parametrize(
    ("wrong", "runs", "standing"),
    [(0, 20, Standing.MET), (1, 20, Standing.CHANCE), (5, 20, Standing.MISSED)],
)
def test_a_share_is_missed_only_when_chance_does_not_explain_it(
    wrong: int, runs: int, standing: Standing
) -> None:
    scenario = named("E1: treatment")
    outcomes = [ended(Decision.ROLLBACK)] * wrong + [ended(Decision.HOLD)] * (runs - wrong)
    assert measured(scenario, outcomes).standing is standing


def test_names_of_scenarios_are_unique_and_every_promise_has_one() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names)
    assert {scenario.counts for scenario in SCENARIOS} == set(Counts)


def test_the_command_prints_one_object_and_draws_one_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = Options(fast=True, only="+50 % from", jobs=1, plot=tmp_path / "table.svg")
    assert simulate(options, as_json=True) == 0
    (row,) = json.loads(capsys.readouterr().out)["scenarios"]
    assert row["standing"] == "met"
    assert row["value"] <= row["target"]
    assert ET.parse(tmp_path / "table.svg").getroot().tag.endswith("svg")  # noqa: S314 - our own


def test_a_name_that_no_scenario_has_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(Options(only="nonsense")) == 2
    assert "no scenario is called 'nonsense'" in capsys.readouterr().err


def test_a_policy_without_the_criteria_that_a_scenario_demands_is_refused() -> None:
    bare = replace(POLICY, criteria={"error_rate": POLICY.criteria["error_rate"]})
    with pytest.raises(ValueError, match="lacks the criteria live_crashes, live_error_rate"):
        study(bare, seed=0, only="healthy")
