"""`rollout.yml`, executed: what a verdict moves, and what moves nothing."""

from hub import FLAG, Hub


def test_a_promotion_goes_to_canary(hub: Hub) -> None:
    ran = hub.run()
    assert ran.jobs == {"gate": "success", "promote": "success"}, ran.log
    assert hub.stage == "canary"
