"""What must hold of a guard that hears nothing of its engines. Pure, as `checks`."""

from collections.abc import Iterator, Mapping
from typing import Any

from chaos.objecting import Objection, Run, fail, unknown
from chaos.observing import Look


def guard_keeps_watch(run: Run, between: float) -> Iterator[Objection]:
    """The lease was renewed and nothing was rolled back; with a minute lost, that is not shown.

    Args:
        run: of an engine that is watched.
        between: seconds of a cut that surely hold a whole minute from edge to closing: the engines
            must have told of it themselves. In a shorter one a minute may wait for Prometheus.
    """
    notes = _notes(run)
    if notes is None:
        yield unknown("nobody knows what the guard did")
        return
    before, during, after = notes
    looks = [look for look in run.record.looks if not look.error]
    if any(look.status["lease"]["lapsed"] for look in looks):
        yield fail("the engine's lease lapsed")
    if during["lease_expires_at"] <= before["lease_expires_at"]:
        yield fail("the lease was not renewed without Prometheus")
    braked = any(flag["braked"] for look in looks for flag in look.status["flags"].values())
    shares = _shares(looks)
    if after["rollbacks"] or braked or len(set(shares)) != 1:
        yield fail(f"{after['rollbacks']:g} rollbacks, braked {braked}, shares {sorted(shares)}")
    if after["minutes_invalid"] > before["minutes_invalid"]:
        lost = after["minutes_invalid"] - before["minutes_invalid"]
        # A late scrape loses one as well; the guard took it for nothing, as it must.
        yield unknown(f"{lost:g} minutes show nothing")
    judged = during["minutes_valid"] - before["minutes_valid"]
    seconds = run.effect.values["cut_seconds"]
    if seconds > between and not judged:
        yield fail(f"no minute from the engines in {seconds:.0f} s")


def guard_brakes_when_blind(run: Run) -> Iterator[Objection]:
    """No lease was renewed on what was too old; the engine braked itself, and so it stayed.

    The guard wrote that rollback down, and promoted nothing: not while it saw nothing, and not
    when it saw again.
    """
    notes = _notes(run)
    if notes is None:
        yield unknown("nobody knows what the guard did")
        return
    before, during, after = notes
    if "is not renewed" not in run.effect.values.get("told", ""):
        yield fail("the guard did not say that it renews no lease, and why")
    if during["minutes_valid"] > before["minutes_valid"]:
        yield fail("the guard took minutes of which nobody told it for valid ones")
    if after["dead_man"] != 1 or after["rollbacks"] != 1 or after["open"]:
        yield fail(
            f"{after['rollbacks']:g} rollbacks, {after['dead_man']:g} of them because a guard fell "
            f"silent, {after['open']:g} not everywhere; expected 1, 1, 0"
        )
    if after["concerns"]:
        yield fail(f"{after['concerns']:g} things trouble the guard when it sees again")
    looks = [look for look in run.record.looks if not look.error]
    shares = list(dict.fromkeys(_shares(looks)))
    if shares[-1:] != [0.0] or len(shares) != 2:  # noqa: PLR2004 - what was promoted, then none
        yield fail(f"the engine served {shares} %, expected what was promoted and then 0")
    behind = [look for look in looks if _braked(look)]
    if any(_shares(behind)):
        yield fail(f"behind its brake the engine served {sorted(set(_shares(behind)))} %")


def _notes(run: Run) -> tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]] | None:
    before, during, after = (run.effect.values.get(at) for at in ("before", "during", "after"))
    return (before, during, after) if before and during and after else None


def _shares(looks: list[Look]) -> list[float]:
    """Per cent that the engine served of the flag that it was promoted to, look by look."""
    return [max(flag["effective"] for flag in look.status["flags"].values()) for look in looks]


def _braked(look: Look) -> bool:
    return any(flag["braked"] for flag in look.status["flags"].values())
