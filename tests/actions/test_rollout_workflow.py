"""`rollout.yml`, executed: what a verdict moves, and what moves nothing."""

import pytest
from hub import FLAG, Hub

PROMOTED = {"gate": "success", "promote": "success"}
REFUSED = {"gate": "success", "promote": "failure"}
HELD = {"gate": "success"}
NO_VERDICT = {"gate": "success", "no-verdict": "failure"}
ROLLED_BACK = {"gate": "success", "rollback": "success"}


def test_a_flag_goes_to_canary_by_hand_and_to_early_by_the_hour(hub: Hub) -> None:
    first = hub.run()
    assert first.jobs == PROMOTED, first.log
    assert (hub.stage, hub.stored()["rollout_percentage"], hub.stored()["epoch"]) == (
        *("canary", 1), 1,
    )  # fmt: skip
    second = hub.run(event="schedule", stage="auto")
    assert second.jobs == PROMOTED, second.log
    assert (hub.stage, hub.stored()["rollout_percentage"]) == ("early", 10)
    steps = [record["flags"][FLAG] for record in hub.history()]
    assert [(step["from"], step["to"]) for step in steps] == [
        ("off", "canary"),
        ("canary", "early"),
    ]
    assert hub.engine.shares[FLAG] == 10
    noted = hub.github.calls("POST", "/deployments")
    assert [body["environment"] for body in noted] == ["rollout-canary", "rollout-early"]
    assert [body["state"] for body in hub.github.calls("POST", "/statuses")] == ["success"] * 2
    assert "## phase5 gate: promote" in first.log


def test_nothing_starts_by_the_hour_and_a_stage_is_not_skipped(hub: Hub) -> None:
    before = hub.tip()
    ran = hub.run(event="schedule", stage="auto")
    assert ran.jobs == HELD, ran.log
    ran = hub.run(stage="early")
    assert ran.jobs == NO_VERDICT, ran.log
    assert "stands at off" in ran.log
    assert hub.tip() == before


@pytest.mark.parametrize("case", ["no-data", "few", "skip", "shout"])
def test_what_was_not_shown_holds(hub: Hub, case: str) -> None:
    before = hub.tip()
    ran = hub.run(case=case)
    assert ran.jobs == HELD, ran.log
    assert hub.tip() == before
    assert "slo/test_slo.py" in ran.log
    assert "## phase5 gate: hold" in ran.log


@pytest.mark.parametrize("case", ["crash", "hang", "bad-json"])
def test_a_gate_that_breaks_is_red_and_moves_nothing(hub: Hub, case: str) -> None:
    before = hub.tip()
    ran = hub.run(case=case, variables={"PHASE5_GATE_MINUTES": "0.1" if case == "hang" else "5"})
    assert ran.jobs == NO_VERDICT, ran.log
    assert "## phase5 gate: none" in ran.log
    assert hub.tip() == before


def test_errors_roll_back_by_themselves(hub: Hub) -> None:
    hub.state("canary", 1)
    ran = hub.run(case="errors")
    assert ran.jobs == ROLLED_BACK, ran.log
    assert (hub.stage, hub.stored()["rollout_percentage"]) == ("off", 0)
    (record,) = hub.history()
    assert (record["event"], record["cause"]) == ("rollback", "verdict")
    assert record["reason"].startswith("error_rate 25 %")
    assert FLAG in hub.engine.brakes
    assert [body["state"] for body in hub.github.calls("POST", "/statuses")] == ["inactive"]


def test_a_rehearsal_checks_everything_and_changes_nothing(hub: Hub) -> None:
    before = hub.tip()
    ran = hub.run(dry_run="true")
    assert ran.jobs == PROMOTED, ran.log
    assert "phase5: would promote" in ran.log
    assert hub.tip() == before
    assert hub.github.asked == []


def test_a_rollback_is_rehearsed_without_a_change(hub: Hub) -> None:
    hub.state("canary", 1)
    before = hub.tip()
    ran = hub.run(case="errors", dry_run="true")
    assert ran.jobs == ROLLED_BACK, ran.log
    assert hub.tip() == before
    assert hub.engine.brakes == {}
