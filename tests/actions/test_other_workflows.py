"""`rollback.yml`, `gate.yml` and the gate on a real engine, executed."""

from hub import FLAG, Hub


def test_a_person_rolls_back(hub: Hub) -> None:
    hub.state("mid", 50)
    ran = hub.run("rollback", reason="answers are cut off")
    assert ran.jobs == {"rollback": "success"}, ran.log
    assert (hub.stage, hub.stored()["rollout_percentage"]) == ("off", 0)
    (record,) = hub.history()
    assert (record["cause"], record["reason"]) == ("manual", "answers are cut off")
    assert "acme/rollout run" in record["who"]
    assert set(hub.engine.brakes) >= {FLAG}


def test_a_rollback_is_in_although_an_engine_is_silent(hub: Hub) -> None:
    """The guard brings it there from the store; the run says which engine it was."""
    hub.state("canary", 1)
    hub.engine.faults = [500] * 1000
    ran = hub.run("rollback", reason="errors")
    assert ran.jobs == {"rollback": "success"}, ran.log
    assert hub.stage == "off"
    assert len(ran.commands("warning", hub.engine.url)) == 1


def test_a_pull_request_gets_a_dry_run(hub: Hub) -> None:
    hub.edit(".github/workflows/gate.yml", "tests: config", "tests: slo")
    hub.edit(
        ".github/workflows/gate.yml", "stage: canary", f"stage: canary\n          flags: {FLAG}"
    )
    hub.commit()
    hub.state("mid", 50)
    good = hub.run("gate", "pull_request")
    assert good.jobs == {"gate": "success"}, good.log
    assert "this verdict can never promote" in good.log
    bad = hub.run("gate", "pull_request", case="errors")
    assert bad.jobs == {"gate": "failure"}, bad.log
    (note,) = bad.commands("error", "error_rate 25 %")
    assert "file=slo/test_slo.py,line=" in note
    assert hub.stage == "mid"


def test_the_backstop_writes_down_what_an_engine_did_by_itself(hub: Hub) -> None:
    hub.state("canary", 1)
    hub.engine.brakes[FLAG] = "b1"
    ran = hub.run("watch", "schedule")
    assert ran.jobs == {"watch": "success"}, ran.log
    assert (hub.stage, hub.stored()["rollout_percentage"]) == ("off", 0)
    assert [record["event"] for record in hub.history()] == ["rollback"]


def test_the_backstop_is_red_where_somebody_must_look(hub: Hub) -> None:
    hub.state("canary", 1)
    before = hub.tip()
    hub.engine.faults = [500] * 1000
    ran = hub.run("watch", "schedule")
    assert ran.jobs == {"watch": "failure"}, ran.log
    assert hub.tip() == before
