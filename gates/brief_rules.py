"""What to do about a flag: rules in the order of how much depends on them. Pure."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from enum import IntEnum
from typing import Final

from gates.asking import EngineError
from gates.scene import Scene
from gates.stages import FULL, OFF


class Level(IntEnum):
    """How soon somebody has to look; the higher, the sooner."""

    QUIET = 0  #: nothing to do but wait
    READY = 1  #: a person may take the next step
    LOOK = 2  #: something stands still until a person acts
    ACT = 3  #: what serves is not what was decided, or nobody watches it


@dataclass(frozen=True, slots=True)
class Step:
    """What to tell of a flag."""

    level: Level
    headline: str
    command: str
    page: str


def step_of(scene: Scene, flag: str) -> Step:
    """The first rule that speaks is the one that is told; the last one always does."""
    return next(filter(None, (rule(scene, flag) for rule in _RULES)))


Rule = Callable[[Scene, str], Step | None]


def _store_unknown(scene: Scene, flag: str) -> Step | None:
    if scene.standings is not None:
        return None
    level = Level.ACT if scene.share(flag) else Level.LOOK
    return Step(level, f"the store is unknown: {scene.trouble}", _back(scene, flag), "store.md")


def _by_hand(scene: Scene, flag: str) -> Step | None:
    standing = scene.standing(flag)
    hands = [view for view in scene.views() if view.flags[flag].unmanaged]
    if standing is None or (standing.managed and not hands):
        return None
    headline = "raised by hand: nobody judges it"
    return Step(Level.ACT, headline, _back(scene, flag, "raised by hand"), "incident-response.md")


def _still_served(scene: Scene, flag: str) -> Step | None:
    """It is off in the store, and an engine serves it or cannot be asked."""
    standing = scene.standing(flag)
    waits = scene.unconfirmed(flag)
    if standing is None or standing.stage != OFF or not waits:
        return None
    served = any(not view.flags[flag].off for view in scene.views())
    # An engine that is silent matters where there was something to take back.
    if not served and not standing.tombstones and not standing.suspect and not standing.epoch:
        return None
    headline = f"off, and not confirmed by {', '.join(waits)}"
    command = _back(scene, flag, "not at 0 % everywhere")
    return Step(Level.ACT, headline, command, "rollback-procedure.md")


def _braked(scene: Scene, flag: str) -> Step | None:
    standing = scene.standing(flag)
    braked = [view for view in scene.views() if view.flags[flag].braked]
    if standing is None or standing.stage == OFF or not braked:
        return None
    causes = sorted({view.flags[flag].cause or "no cause" for view in braked})
    headline = f"braked by {len(braked)} of {len(scene.engines)} engines ({', '.join(causes)})"
    command = _back(scene, flag, f"braked: {', '.join(causes)}")
    return Step(Level.ACT, headline, command, "rollback-procedure.md")


def _unwatched(scene: Scene, flag: str) -> Step | None:
    standing = scene.standing(flag)
    if standing is None or standing.stage == OFF:
        return None
    lapsed = [view for view in scene.views() if view.lease.lapsed]
    command = _phase5(scene, "watch")
    if any(view.lease.frozen for view in lapsed):
        headline = "frozen: a lease lapsed at full, and no raise is taken"
        return Step(Level.ACT, headline, command, "incident-response.md")
    if lapsed:
        headline = "a lease lapsed: no guard renews it"
        return Step(Level.ACT, headline, command, "incident-response.md")
    if scene.guard.silent(scene.now) and scene.guard.beat is not None:
        since = scene.guard.beat.astimezone(UTC).strftime("%H:%M:%SZ")
        headline = f"the guard is silent since {since}"
        return Step(Level.ACT, headline, command, "incident-response.md")
    return None


def _engine_silent(scene: Scene, flag: str) -> Step | None:
    standing = scene.standing(flag)
    silent = [url for url, engine in scene.engines.items() if isinstance(engine, EngineError)]
    if standing is None or standing.stage == OFF or not silent:
        return None
    headline = f"unknown at {', '.join(silent)}: restart it, or take it out of the load balancer"
    return Step(Level.ACT, headline, _phase5(scene, "status"), "incident-response.md")


def _told(scene: Scene, flag: str) -> Step | None:
    """What the guard told of this flag and is not over."""
    standing = scene.standing(flag)
    texts = [text for text in scene.guard.told.values() if flag in text]
    if standing is None or standing.stage == OFF or not texts:
        return None
    return Step(Level.LOOK, texts[0], _phase5(scene, "status"), "incident-response.md")


def _held(scene: Scene, flag: str) -> Step | None:
    standing = scene.standing(flag)
    if standing is None or not standing.held:
        return None
    command = _phase5(scene, "resume", "--flag", flag, "--reason", "WHY")
    return Step(Level.LOOK, f"held: {standing.held}", command, "rollout-procedure.md")


def _suspect(scene: Scene, flag: str) -> Step | None:
    standing = scene.standing(flag)
    if standing is None or not standing.suspect:
        return None
    command = _phase5(
        scene, "resume", "--flag", flag, "--clear", standing.suspect, "--reason", "WHY"
    )
    headline = f"suspect: {standing.suspect} was rolled back with others, none of them named"
    return Step(Level.LOOK, headline, command, "incident-response.md")


def _off(scene: Scene, flag: str) -> Step | None:
    standing = scene.standing(flag)
    if standing is None or standing.stage != OFF:
        return None
    command = _gate(scene, flag, "canary")
    if standing.tombstones:
        headline = f"rolled back: {standing.tombstones[-1]} may not return; bring another build"
        return Step(Level.LOOK, headline, command, "rollback-procedure.md")
    return Step(Level.QUIET, "off", command, "rollout-procedure.md")


def _soaking(scene: Scene, flag: str) -> Step | None:
    if flag not in scene.soak_left:
        return None
    left = scene.soak_left[flag]
    if left is None:
        headline = "how far the soak is, is unknown here: no guard of this configuration ran here"
        return Step(Level.LOOK, headline, _phase5(scene, "watch"), "monitoring-checklist.md")
    if left:
        headline = f"soaking: {left // 60} h {left % 60:02d} min of valid minutes are missing"
        command = _phase5(scene, "status", "--watch")
        return Step(Level.QUIET, headline, command, "monitoring-checklist.md")
    return None


def _soaked(scene: Scene, flag: str) -> Step | None:
    standing = scene.standing(flag)
    if standing is None or not standing.following:
        return None
    if standing.following in scene.approval and not standing.approved:
        command = _phase5(scene, "approve", "--flag", flag, "--reason", "WHY")
        headline = f"soaked; {standing.following} needs an approval"
        return Step(Level.READY, headline, command, "rollout-procedure.md")
    headline = f"soaked; a verdict may promote it to {standing.following}"
    return Step(Level.READY, headline, _gate(scene, flag, standing.stage), "rollout-procedure.md")


def _rest(scene: Scene, flag: str) -> Step:
    standing = scene.standing(flag)
    full = standing is not None and standing.stage == FULL
    headline = "at full; the hold-back stays as control" if full else "nothing to do"
    return Step(Level.QUIET, headline, _phase5(scene, "status"), "monitoring-checklist.md")


#: In the order of how much depends on it.
_RULES: Final[tuple[Rule, ...]] = (
    _store_unknown,
    _by_hand,
    _still_served,
    _braked,
    _unwatched,
    _engine_silent,
    _told,
    _held,
    _suspect,
    _off,
    _soaking,
    _soaked,
    _rest,
)


def _phase5(scene: Scene, *words: str) -> str:
    config = ("--config", scene.config) if scene.config else ()
    return shlex.join(["phase5", *words, *config])


def _back(scene: Scene, flag: str, reason: str = "WHY") -> str:
    return _phase5(scene, "rollback", "--flag", flag, "--reason", reason)


def _gate(scene: Scene, flag: str, stage: str) -> str:
    config = (f"--phase5-config={scene.config}",) if scene.config else ()
    words = ("python", "-m", "pytest", f"--phase5-gate={stage}", f"--phase5-flags={flag}")
    return shlex.join([*words, *config])
