"""What must hold where there is no room to write. Pure, as `checks`."""

from collections.abc import Iterator, Mapping
from typing import Any

from chaos.objecting import Objection, Run, fail, unknown

#: What every message names beside the file: what the system said, and what to do.
_ADVICE = "make room"


def verdict_stays_whole(run: Run, system: str) -> Iterator[Objection]:
    """A gate that is judged without room refuses in words, and leaves the last verdict alone.

    Args:
        run: of a fault that judges.
        system: what the system says to a write.
    """
    judge: Mapping[str, Any] = run.effect.values.get("judge", {})
    if not judge.get("verdict_whole"):
        yield fail(f"the verdict was touched: {judge.get('left')}")
    yield from _clear("the judge", judge, "verdict.json: cannot be written", system)
    if judge.get("left") != ["verdict.json"]:
        yield fail(f"the judge left {judge.get('left')}")


def store_stays_whole(run: Run, system: str) -> Iterator[Objection]:
    """A promotion is refused in words and changes nothing; what is asked for later is written."""
    values = run.effect.values
    if "promotion" not in values or "store_after" not in values:
        yield unknown("nobody knows what became of the store")
        return
    promotion, before, after = (
        values[each] for each in ("promotion", "store_before", "store_after")
    )
    if promotion["status"] != 1 or not values["config_whole"]:
        yield fail(f"a promotion ended with {promotion['status']}, the store is another one")
    yield from _clear("a promotion", promotion, "cannot be written", system)
    during = values["store_during"]
    if (during["stage"], during["generation"]) != (before["stage"], before["generation"]):
        yield fail(f"without room the store went from {before} to {during}")
    if (after["stage"], after["percentage"], after["problems"]) != ("off", 0, []):
        yield fail(f"with room again the store is {after}, expected stage off and no problem")


def brake_holds_in_memory(run: Run, system: str) -> Iterator[Objection]:
    """A rollback takes effect at once, says that it is not durable, and is once there is room."""
    values = run.effect.values
    if "rollback" not in values or "rollback_again" not in values:
        yield unknown("nobody knows what became of the rollback")
        return
    engine, after = values["engine"], values["engine_after"]
    if not engine["braked"] or engine["durable"]:
        yield fail(f"without room the engine was {engine}, expected braked and not durable")
    yield from _clear("the engine", {"said": engine["troubles"]}, "brakes/", system)
    if values["rollback"]["status"] != 1:
        yield fail(f"a rollback that a restart forgets ended with {values['rollback']['status']}")
    yield from _clear("the rollback", values["rollback"], "STORE NOT WRITTEN: /", system)
    if values["rollback_again"]["status"] != 0 or not after["durable"] or not values["brakes"]:
        yield fail(f"with room again: {values['rollback_again']}, the engine is {after}")
    if values["torn"]:
        yield fail(f"files of brakes are torn: {values['torn']}")
    served = [
        flag["effective"]
        for look in run.record.looks
        if not look.error
        for flag in look.status["flags"].values()
        if flag["braked"]
    ]
    if any(served):
        yield fail(f"behind its brake the engine served {max(served):g} %")


def _clear(who: str, told: Mapping[str, Any], what: str, system: str) -> Iterator[Objection]:
    """Objections to what was said: it must name the file, the reason, and what to do."""
    said = "\n".join(told.get("said") or [])
    for word in (what, system, _ADVICE):
        if word not in said:
            yield fail(f"{who} does not say {word!r}: {said!r}")
