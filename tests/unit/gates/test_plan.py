"""Whether a soak can reach a verdict: answered before it starts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gates.plan import PlanError, Row, in_words, pairs_needed, plan
from gates.plan_cli import plan_stage
from gates.planning import clean_needed_sequential
from gates.policy import load_policy
from gates.stages import Policy, Transition


def policy() -> Policy:
    """The packaged one, without criteria of live traffic."""
    whole = load_policy()
    tests = {name: c for name, c in whole.criteria.items() if c.source == "tests"}
    stages = {
        name: replace(
            stage,
            enter=tuple(c for c in stage.enter if c in tests),
            leave=tuple(c for c in stage.leave if c in tests),
        )
        for name, stage in whole.stages.items()
    }
    return replace(whole, criteria=tests, stages=stages)


def only(stage: str, rate: float, error_rate: float) -> Row:
    (row,) = plan(policy(), stage, rate=rate, error_rate=error_rate).rows
    return row


def test_a_healthy_build_at_one_request_a_second_is_reached() -> None:
    found = plan(policy(), "canary", rate=1, error_rate=0.0002)
    (row,) = found.rows
    assert (row.id, row.reach.requests, row.reach.least) == ("error_rate", 86_400, 3_651)
    assert found.reachable
    assert found.fleet_rate == 100
    assert row.reach.typical is not None
    assert row.reach.least < row.reach.typical < 10_000
    assert in_words(row) == "yes, in 100 % of soaks"


@pytest.mark.parametrize(
    ("rate", "error_rate", "words"),
    [
        (0.03, 0.0, "no: the soak brings 1 059 requests too few, even without a bad one"),
        (1, 0.001, "never: the supposed rate is not under the limit"),
        (1, 0.2, "never: the supposed rate is not under the limit"),
        (0.05, 0.0005, "hardly: in "),
    ],
)
def test_what_cannot_be_reached_says_why(rate: float, error_rate: float, words: str) -> None:
    row = only("canary", rate, error_rate)
    assert not row.reachable
    assert in_words(row).startswith(words)


def test_a_longer_soak_takes_less_traffic() -> None:
    assert not only("canary", 0.03, 0.0).reachable
    assert only("early", 0.03, 0.0).reachable


def test_the_sizes_of_the_requirements_are_held_against_their_claims() -> None:
    sizes = {size.claim: size for size in plan(policy(), "canary", rate=1, error_rate=0).sizes}
    told = {claim: (size.size, size.reachable) for claim, size in sizes.items()}
    assert told == {
        "error rate at most 0.1 %": (1_000, False),
        "TTFT P95 at most 550 ms": (100, True),
        "TTFT better than control by 30 %": (100, False),
    }
    assert sizes["error rate at most 0.1 %"].needs == 2_995
    assert sizes["TTFT P95 at most 550 ms"].needs == 59
    claim = sizes["TTFT better than control by 30 %"].needs
    assert claim is not None
    assert claim > 4_000


def test_a_claim_that_is_not_true_is_never_shown() -> None:
    improved = policy().criteria["ttft_p95_improved"]
    assert pairs_needed(improved, 0.7) is None
    assert pairs_needed(improved, 0.1) == improved.min_samples


def test_quantiles_that_a_door_lists_are_planned_as_well() -> None:
    early = replace(policy().stages["early"], leave=("ttft_p95_ms",))
    rules = replace(policy(), stages={**policy().stages, "early": early})
    found = plan(rules, "early", rate=1, error_rate=0)
    assert [(row.id, row.reach.least) for row in found.rows] == [
        ("ttft_p95_ms", clean_needed_sequential(1 - 0.95)),
        ("error_rate", 3_651),
    ]
    assert policy().required(Transition("early", "mid"))


def test_live_ceilings_are_what_a_soak_shows_wherever_the_policy_has_any() -> None:
    tests = policy()
    live = {
        f"live_{name}": replace(tests.criteria[name], id=f"live_{name}", source="live")
        for name in ("error_rate", "ttft_p95_ms")
    }
    both = replace(tests, criteria={**tests.criteria, **live})
    found = plan(both, "canary", rate=1, error_rate=0)
    assert [row.id for row in found.rows] == list(live)
    early = replace(tests.stages["early"], leave=("error_rate", "live_ttft_p95_ms"))
    listed = replace(both, stages={**tests.stages, "early": early})
    rows = plan(listed, "early", rate=1, error_rate=0).rows
    assert [row.id for row in rows] == ["live_ttft_p95_ms", "live_error_rate"]
    assert found.sizes == plan(tests, "canary", rate=1, error_rate=0).sizes


@pytest.mark.parametrize(
    ("stage", "changes", "words"),
    [
        ("full", {}, "stage 'full' has no soak to plan; allowed: canary, early, mid"),
        ("off", {}, "stage 'off'"),
        ("moon", {}, "stage 'moon'"),
        ("canary", {"rate": 0.0}, "--rate 0; allowed: requests a second above 0"),
        ("canary", {"rate": float("nan")}, "--rate nan"),
        ("canary", {"rate": float("inf")}, "--rate inf"),
        ("canary", {"error_rate": 1.0}, "--error-rate 1; allowed: a share, 0 to below 1"),
        ("canary", {"error_rate": float("nan")}, "--error-rate nan"),
    ],
)
def test_what_cannot_be_planned_is_refused(stage: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError, match=f"^{words}"):
        plan(policy(), stage, **{"rate": 1.0, "error_rate": 0.0, **changes})


def test_the_command_prints_one_object_and_tells_by_its_status(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert plan_stage("canary", rate=1, error_rate=0.0002, as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["reachable"]
    least = {row["id"]: row["least"] for row in document["criteria"]}
    assert 3_651 in least.values()
    assert {size["reachable"] for size in document["sizes"]} == {True, False}
    assert plan_stage("canary", rate=0.01, error_rate=0.0002) == 10
    assert "reachable: no" in capsys.readouterr().out


def test_a_mistake_is_one_line_and_status_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan_stage("full", rate=1, error_rate=0) == 2
    (tmp_path / "gates.yaml").write_text("{}", encoding="utf-8")
    config = tmp_path / "runtime.yaml"
    assert plan_stage("canary", rate=1, error_rate=0, config=config, as_json=True) == 2
    out, err = capsys.readouterr()
    assert "criteria: Field required" in json.loads(out)["error"]
    assert err.startswith("stage 'full' has no soak")


def test_a_policy_without_targets_has_no_sizes() -> None:
    bare = {name: policy().criteria[name] for name in ("error_rate", "tests_green")}
    stages = {name: replace(stage, enter=(), leave=()) for name, stage in policy().stages.items()}
    found = plan(Policy(criteria=bare, stages=stages), "mid", rate=1, error_rate=0)
    assert [size.claim for size in found.sizes] == ["error rate at most 0.1 %"]
