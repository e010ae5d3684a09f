"""What is objected to in a guard without sight, and where there is no room."""

from dataclasses import replace
from typing import Any

import pytest
from chaos_builders import EXPERIMENT, look, record

from chaos.disk_checks import brake_holds_in_memory, store_stays_whole, verdict_stays_whole
from chaos.guard_checks import guard_brakes_when_blind, guard_keeps_watch
from chaos.objecting import Run, Weight
from chaos.observing import Look
from chaos.record import Effect

FULL = "No space left on device"


def run_of(values: dict[str, Any], looks: tuple[Look, ...] = ()) -> Run:
    effect = Effect(values=values, proven=True)
    return Run(experiment=EXPERIMENT, record=replace(record(), looks=looks), effect=effect)


def served(at: float, share: float, *, braked: bool = False, lapsed: bool = False) -> Look:
    flag = {"effective": share, "braked": braked}
    return look(at, flags={"qos_monitoring": flag}, lease={"lapsed": lapsed})


def noted(**changes: float) -> dict[str, float]:
    fine = {
        "rollbacks": 0.0,
        "dead_man": 0.0,
        "open": 0.0,
        "concerns": 0.0,
        "minutes_valid": 5.0,
        "minutes_invalid": 4.0,
        "lease_expires_at": 100.0,
    }
    return {**fine, **changes}


WATCHED: dict[str, Any] = {
    "before": noted(),
    "during": noted(lease_expires_at=120.0),
    "after": noted(lease_expires_at=130.0),
    "cut_seconds": 30.0,
}
STEADY_LOOKS = tuple(served(at, 50) for at in (101, 103.5, 106))


def of_watch(**changes: Any) -> list[Weight]:
    looks = changes.pop("looks", STEADY_LOOKS)
    run = run_of({**WATCHED, **changes}, looks)
    return [each.weight for each in guard_keeps_watch(run, between=60)]


def test_a_guard_that_goes_on_without_prometheus_is_not_objected_to() -> None:
    assert of_watch() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"during": noted()},
        {"after": noted(rollbacks=1.0)},
        {"cut_seconds": 61.0},
        {"looks": (*STEADY_LOOKS, served(106.5, 50, lapsed=True))},
        {"looks": (*STEADY_LOOKS, served(106.5, 0))},
    ],
)
def test_a_guard_that_lets_go_fails(changes: dict[str, Any]) -> None:
    assert of_watch(**changes) == [Weight.FAIL]


def test_a_guard_of_which_nothing_is_known_passes_nothing() -> None:
    assert of_watch(after=None) == [Weight.UNKNOWN]
    assert of_watch(after=noted(minutes_invalid=5.0)) == [Weight.UNKNOWN]
    assert [o.weight for o in guard_brakes_when_blind(run_of({}))] == [Weight.UNKNOWN]


BLIND: dict[str, Any] = {
    "before": noted(),
    "told": "the lease of e1 is not renewed: too old",
    "during": noted(concerns=1.0),
    "after": noted(rollbacks=1.0, dead_man=1.0),
}
BRAKED_LOOKS = (served(101, 50), served(103.5, 0, braked=True), served(106, 0, braked=True))


def of_blind(**changes: Any) -> list[Weight]:
    looks = changes.pop("looks", BRAKED_LOOKS)
    return [o.weight for o in guard_brakes_when_blind(run_of({**BLIND, **changes}, looks))]


def test_a_blind_guard_whose_engine_brakes_itself_is_not_objected_to() -> None:
    assert of_blind() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"told": ""},
        {"during": noted(minutes_valid=6.0)},
        {"after": noted()},
        {"after": noted(rollbacks=1.0, dead_man=1.0, open=1.0)},
        {"after": noted(rollbacks=1.0, dead_man=1.0, concerns=1.0)},
        {"looks": (served(101, 50), served(106, 50))},
        {"looks": (*BRAKED_LOOKS, served(106.5, 100))},
    ],
)
def test_a_blind_guard_that_takes_absence_for_health_fails(changes: dict[str, Any]) -> None:
    assert of_blind(**changes) == [Weight.FAIL]


def test_what_is_braked_and_serves_all_the_same_fails() -> None:
    looks = (served(101, 50), served(103, 0, braked=True), served(104, 50, braked=True))
    assert Weight.FAIL in of_blind(looks=looks)


SAID = [f"/disk/verdict.json: cannot be written: {FULL}; make room there"]
FILLED: dict[str, Any] = {
    "judge": {"verdict_whole": True, "said": SAID, "left": ["verdict.json"]},
    "promotion": {"status": 1, "said": SAID},
    "config_whole": True,
    "store_before": {"stage": "mid", "generation": 2},
    "store_during": {"stage": "mid", "generation": 2},
    "store_after": {"stage": "off", "percentage": 0.0, "problems": []},
    "rollback": {"status": 1, "said": [f"STORE NOT WRITTEN: /disk/c.yaml: {FULL}; make room"]},
    "engine": {
        "braked": True,
        "durable": False,
        "troubles": [f"/disk/brakes/x.json: {FULL}; make room"],
    },
    "engine_after": {"braked": True, "durable": True, "troubles": []},
    "rollback_again": {"status": 0, "said": []},
    "brakes": 4,
    "torn": [],
}


def of_disk(**changes: Any) -> list[str]:
    looks = changes.pop("looks", BRAKED_LOOKS)
    run = run_of({**FILLED, **changes}, looks)
    checks = (verdict_stays_whole, store_stays_whole, brake_holds_in_memory)
    return [each.why for check in checks for each in check(run, system=FULL)]


def test_a_full_disk_that_harms_nothing_is_not_objected_to() -> None:
    assert of_disk() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"judge": {**FILLED["judge"], "verdict_whole": False}}, "the verdict was touched"),
        ({"judge": {**FILLED["judge"], "left": ["verdict.json", "x"]}}, "the judge left"),
        ({"judge": {**FILLED["judge"], "said": ["OSError"]}}, "does not say"),
        ({"promotion": {"status": 0, "said": SAID}}, "a promotion ended with 0"),
        ({"config_whole": False}, "the store is another one"),
        ({"store_during": {"stage": "full", "generation": 3}}, "without room the store went"),
        ({"store_after": {**FILLED["store_after"], "problems": ["broken"]}}, "with room again"),
        ({"engine": {**FILLED["engine"], "durable": True}}, "expected braked and not durable"),
        ({"engine": {**FILLED["engine"], "troubles": []}}, "the engine does not say"),
        ({"rollback": {**FILLED["rollback"], "status": 0}}, "that a restart forgets"),
        ({"rollback_again": {"status": 1, "said": []}}, "with room again"),
        ({"brakes": 0}, "with room again"),
        ({"torn": ["x.json"]}, "torn"),
        ({"looks": (served(103, 50, braked=True),)}, "behind its brake"),
    ],
)
def test_what_a_full_disk_tore_or_kept_silent_about_fails(
    changes: dict[str, Any], words: str
) -> None:
    assert words in "; ".join(of_disk(**changes))


def test_a_full_disk_that_nobody_tried_to_write_to_passes_nothing() -> None:
    run = run_of({})
    assert [o.weight for o in store_stays_whole(run, system=FULL)] == [Weight.UNKNOWN]
    assert [o.weight for o in brake_holds_in_memory(run, system=FULL)] == [Weight.UNKNOWN]
