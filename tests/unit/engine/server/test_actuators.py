"""D2: each remedy really moves something, and says from where to where."""

import asyncio
from typing import Any

import pytest

from engine.core.qos import Slo, SloStatus
from engine.core.remediation import Order
from engine.core.remedies import Action, Policy, Remedy
from engine.server.actuators import Change, LimitCap, Replicas, Restart

SLOW = SloStatus("slow", "ttft_p95_ms", 900.0, 20, "violated", 550.0, active=True)


def order(action: Action, **remedy: Any) -> Order:
    slo = Slo(name="slow", metric="ttft_p95_ms", max=550)
    return Order("execute", Policy(slo, Remedy(action, **remedy)), (SLOW,))


def throttle(cap: LimitCap, factor: float = 0.5) -> Change:
    return asyncio.run(cap.apply(order("throttle", factor=factor)))


def test_a_throttle_leaves_a_share_of_the_streams_that_ran_lately() -> None:
    cap = LimitCap(lambda: 50, floor=4)
    cap.saw(20)
    cap.saw(3)
    assert throttle(cap) == Change("limit 50", "limit 10")
    assert (cap.capped(50), cap.capped(7)) == (10, 7)


def test_what_ran_two_turns_ago_is_forgotten() -> None:
    cap = LimitCap(lambda: 50, floor=4)
    cap.saw(20)
    cap.turn()
    cap.saw(16)
    assert throttle(cap).after == "limit 10"
    cap.turn()
    cap.turn()
    assert throttle(cap).after == "limit 5"  # nothing ran: a share of the limit


def test_it_stops_at_the_floor_and_never_raises() -> None:
    cap = LimitCap(lambda: 50, floor=4)
    cap.saw(5)
    assert throttle(cap).after == "limit 4"
    assert not throttle(cap).changed
    low = LimitCap(lambda: 2, floor=4)
    assert throttle(low) == Change("limit 2", "limit 2")


def test_a_throttle_is_undone_to_the_one_before() -> None:
    cap = LimitCap(lambda: 50, floor=4)
    throttle(cap)
    throttle(cap)
    assert asyncio.run(cap.undo()) == Change("limit 12", "limit 25")
    throttle(cap)
    assert asyncio.run(cap.reset()) == Change("limit 12", "limit 50")
    assert cap.cap is None


def test_the_first_throttle_is_undone_to_no_cap_at_all() -> None:
    limits = iter((50, 50, 50, 50, 80))
    cap = LimitCap(lambda: next(limits, 80), floor=4)
    throttle(cap)
    asyncio.run(cap.undo())
    assert cap.capped(80) == 80


def test_easing_goes_up_in_steps_until_the_cap_is_gone() -> None:
    cap = LimitCap(lambda: 50, floor=4)
    throttle(cap, 0.5)
    throttle(cap, 0.5)
    assert asyncio.run(cap.ease()) == Change("limit 12", "limit 24")
    assert asyncio.run(cap.ease()) == Change("limit 24", "limit 48")
    assert asyncio.run(cap.ease()) == Change("limit 48", "limit 50")
    assert cap.cap is None


def test_scaling_stays_within_its_bounds(fake_runtime: Any) -> None:
    runtime = fake_runtime()
    replicas = Replicas(runtime, configured=1, fewest=1, most=3)
    assert asyncio.run(replicas.apply(order("scale_up", step=5))) == Change(
        "1 replicas", "3 replicas"
    )
    assert not asyncio.run(replicas.apply(order("scale_up"))).changed
    assert runtime.scaled == [3]


def test_a_scaling_is_undone_and_reset(fake_runtime: Any) -> None:
    runtime = fake_runtime()
    replicas = Replicas(runtime, configured=2, fewest=1, most=4)
    asyncio.run(replicas.apply(order("scale_up")))
    asyncio.run(replicas.apply(order("scale_up")))
    asyncio.run(replicas.undo())
    assert runtime.scaled == [3, 4, 3]
    assert asyncio.run(replicas.reset()) == Change("3 replicas", "2 replicas")
    assert not asyncio.run(replicas.reset()).changed


def test_configured_replicas_are_never_out_of_bounds(fake_runtime: Any) -> None:
    runtime = fake_runtime()
    replicas = Replicas(runtime, configured=5, fewest=1, most=2)
    assert not asyncio.run(replicas.apply(order("scale_up"))).changed
    asyncio.run(replicas.apply(order("scale_down")))
    asyncio.run(replicas.reset())
    assert runtime.scaled == [4, 5]


def test_a_restart_renews_the_runtime_and_has_no_way_back(fake_runtime: Any) -> None:
    runtime = fake_runtime()
    restart = Restart(runtime)
    assert asyncio.run(restart.apply(order("restart"))).changed
    assert runtime.renewed == 1
    assert not asyncio.run(restart.undo()).changed
    assert not asyncio.run(restart.reset()).changed
    assert runtime.renewed == 1


@pytest.mark.parametrize("before", [1, 2])
def test_a_scaling_that_fails_leaves_the_count_as_it_was(fake_runtime: Any, before: int) -> None:
    class Failing(fake_runtime):  # type: ignore[misc]  # a fixture, not a name
        async def scale(self, replicas: int) -> None:
            raise RuntimeError(f"{replicas} do not start")

    replicas = Replicas(Failing(), configured=before, fewest=1, most=4)
    with pytest.raises(RuntimeError):
        asyncio.run(replicas.apply(order("scale_up")))
    assert not asyncio.run(replicas.reset()).changed
