"""What `phase5 status` tells first of each state, and the command that it ends with."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from guard_builders import NOW

from engine.core.flags import FLAGS
from gates.asking import EngineError
from gates.brief_rules import Level
from gates.briefing import Brief, briefs
from gates.engine_views import EngineView, FlagView, Lease
from gates.history import Record
from gates.scene import SILENT_AFTER, Guard, Scene
from gates.stages import UNMANAGED
from gates.standing import Standing

FLAG: Final = "ttft_pipeline"
OTHER: Final = "http2_transport"
A, B = "http://a:1", "http://b:2"
ROOT: Final = Path(__file__).resolve().parents[3]

OFF = Standing()
CANARY = Standing(stage="canary", enabled=True, percentage=1.0, epoch=4, salt="s")
FULL = Standing(stage="full", enabled=True, percentage=99.0, epoch=4, salt="s")


def served(share: float = 0.0, **changes: Any) -> FlagView:
    stage = "canary" if share else "off"
    view = FlagView(
        enabled=share > 0, percentage=share, effective=share, stage=stage, epoch=4, braked=False
    )
    return replace(view, **changes)


def engine(flag: FlagView, *, lease: Lease | None = None, generation: int = 7) -> EngineView:
    return EngineView(
        url=A,
        engine_id="a",
        ready=True,
        machine="m",
        model="tiny",
        model_sha256="0" * 64,
        config_sha256="1" * 64,
        engine_version="1",
        commit="c",
        generation=generation,
        flags={**dict.fromkeys(FLAGS, served()), FLAG: flag},
        lease=lease or Lease(expires_at=None, lapsed=False, frozen=False),
        streams_in_flight=0,
    )


def scene(standing: Standing = CANARY, share: float = 1.0, **changes: Any) -> Scene:
    """Two engines that serve what the store says, watched by a guard that is alive."""
    sound = Scene(
        now=NOW,
        standings={**dict.fromkeys(FLAGS, OFF), FLAG: standing},
        generation=7,
        engines={A: engine(served(share)), B: engine(served(share))},
        last={},
        soak_left={FLAG: 0},
        guard=Guard(beat=NOW),
    )
    return replace(sound, **changes)


def one(scene: Scene, flag: str = FLAG) -> Brief:
    return next(brief for brief in briefs(scene) if brief.flag == flag)


def at_b(view: EngineView | EngineError, **changes: Any) -> Scene:
    return scene(engines={A: engine(served(1.0)), B: view}, **changes)


LAPSED = Lease(expires_at=1.0, lapsed=True, frozen=False)
FROZEN = Lease(expires_at=1.0, lapsed=True, frozen=True)
SILENT = Guard(beat=NOW - SILENT_AFTER - timedelta(seconds=1))
TOLD = Guard(beat=NOW, told={"blind:x": f"the lease of b is not renewed: {FLAG} has no data"})
UNKNOWN: Mapping[str, Any] = {"standings": None, "generation": None, "trouble": "no such file"}
BRAKED = served(braked=True, brake="r1", cause="errors")

ACT, LOOK, READY, QUIET = Level.ACT, Level.LOOK, Level.READY, Level.QUIET

#: The scene, how soon, what is said, and what the command contains.
STATES: Final = {
    "store unknown while engines serve": (scene(**UNKNOWN), ACT, "no such file", "rollback"),
    "store unknown, nothing served": (scene(share=0, **UNKNOWN), LOOK, "unknown", "rollback"),
    "store and engines unknown": (
        scene(engines={A: EngineError(A, "gone")}, **UNKNOWN),
        LOOK,
        "unknown",
        "rollback",
    ),
    "raised by hand at an engine": (
        at_b(engine(served(50.0, unmanaged=True))),
        ACT,
        "by hand",
        "rollback",
    ),
    "raised by hand in the store": (
        scene(Standing(stage=UNMANAGED, enabled=True, percentage=5.0)),
        ACT,
        "by hand",
        "rollback",
    ),
    "off, an engine still serves": (scene(OFF, 1.0), ACT, f"not confirmed by {A}, {B}", "rollback"),
    "rolled back, an engine is silent": (
        scene(replace(OFF, epoch=5, tombstones=("c1",)), 0, engines={A: EngineError(A, "gone")}),
        ACT,
        "not confirmed",
        "rollback",
    ),
    "braked": (at_b(engine(BRAKED)), ACT, "braked by 1 of 2 engines (errors)", "rollback"),
    "lease lapsed": (at_b(engine(served(1.0), lease=LAPSED)), ACT, "lapsed", "watch"),
    "frozen at full": (
        scene(FULL, 99.0, engines={A: engine(served(99.0), lease=FROZEN)}),
        ACT,
        "frozen",
        "watch",
    ),
    "guard silent": (scene(guard=SILENT), ACT, "silent since", "watch"),
    "an engine is silent": (at_b(EngineError(B, "gone")), ACT, f"unknown at {B}", "status"),
    "the guard told of it": (scene(guard=TOLD), LOOK, "is not renewed", "status"),
    "held": (scene(replace(CANARY, held="a look first")), LOOK, "held: a look first", "resume"),
    "suspect": (
        scene(replace(OFF, suspect="c1"), 0, soak_left={}),
        LOOK,
        "suspect: c1",
        "--clear c1",
    ),
    "tombstone": (
        scene(replace(OFF, tombstones=("c1",)), 0, soak_left={}),
        LOOK,
        "c1 may not return",
        "--phase5-gate=canary",
    ),
    "off": (scene(OFF, 0, soak_left={}), QUIET, "off", "--phase5-gate=canary"),
    "soaking": (scene(soak_left={FLAG: 61}), QUIET, "1 h 01 min", "--watch"),
    "soak unknown": (scene(soak_left={FLAG: None}), LOOK, "unknown here", "watch"),
    "soaked": (scene(), READY, "may promote it to early", "--phase5-gate=canary"),
    "soaked, an approval is missing": (
        scene(approval=frozenset({"early"})),
        READY,
        "early needs an approval",
        "approve",
    ),
    "soaked and approved": (
        scene(replace(CANARY, approved="early"), approval=frozenset({"early"})),
        READY,
        "may promote",
        "--phase5-gate=canary",
    ),
    "full": (scene(FULL, 99.0, soak_left={}), QUIET, "at full", "status"),
}


@pytest.mark.parametrize("state", STATES)
def test_each_state_has_a_level_a_headline_a_command_and_a_page(state: str) -> None:
    seen, level, headline, command = STATES[state]
    brief = one(seen)
    assert (brief.level, headline in brief.headline) == (level, True), brief
    assert command in brief.command
    assert (ROOT / brief.runbook).is_file()


def test_no_command_of_a_state_can_be_torn_apart_by_a_shell() -> None:
    odd = "my config/it's; rm.yaml"
    for seen, *_ in STATES.values():
        words = shlex.split(one(replace(seen, config=odd)).command)
        assert odd in words or f"--phase5-config={odd}" in words


def test_the_most_pressing_flag_comes_first() -> None:
    levels = [brief.level for brief in briefs(at_b(engine(BRAKED)))]
    assert levels == sorted(levels, reverse=True)
    assert briefs(at_b(engine(BRAKED)))[0].flag == FLAG


def test_engines_are_told_apart_by_what_they_confirm() -> None:
    brief = one(at_b(engine(served(1.0), generation=6)))
    assert brief.confirmed == (A,)
    assert brief.unconfirmed == {B: "at generation 6 of 7"}
    assert "engines serve 1 %" in brief.serves
    assert one(at_b(engine(served(0.5)))).unconfirmed == {B: "serves 0.5 %"}


def test_what_stays_on_beside_a_braked_flag_is_named() -> None:
    both = {**dict.fromkeys(FLAGS, OFF), FLAG: CANARY, OTHER: replace(CANARY, percentage=10.0)}
    assert one(scene(standings=both)).stays == (f"{OTHER} 10 %",)
    assert one(scene()).stays == ()


def test_the_last_change_is_told_with_who_when_and_why() -> None:
    record = Record(
        event="rollback",
        reason="errors 0.4 % over 0.1 %",
        who="guard",
        at=NOW,
        cause="auto",
    )
    told = one(scene(last={FLAG: record})).acted
    assert told.startswith("rollback (auto) by guard, ")
    assert told.endswith("Z: errors 0.4 % over 0.1 %")
    assert "in doubt: line 3" in one(scene(last={FLAG: record}, damage="line 3")).acted
    assert one(scene(last=None, damage="line 3")).acted == "unknown: line 3"


def test_a_guard_that_never_ran_here_is_unknown_and_not_silent() -> None:
    assert not Guard().silent(NOW)
    assert not Guard(beat=NOW - SILENT_AFTER).silent(NOW)
    assert SILENT.silent(NOW)
