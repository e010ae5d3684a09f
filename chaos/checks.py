"""What must hold besides recovery, by experiment. Pure: a record in, objections out."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from chaos.disk_checks import brake_holds_in_memory, store_stays_whole, verdict_stays_whole
from chaos.errors import ChaosError
from chaos.guard_checks import guard_brakes_when_blind, guard_keeps_watch
from chaos.objecting import Objection, Run, fail, unknown
from chaos.observing import Look
from chaos.record import HEALED, INJECTED, changes, whole
from chaos.windows import ERRORS, shift
from gates.evidence import Outcome

Check = Callable[..., Iterator[Objection]]

#: Fewer streams are no crowd.
LEAST_CAUGHT: Final = 5

#: Other requests hold some of the slots, and so some of a crowd may still wait for one.
MOST: Final = 0.9


def all_caught_end_whole(run: Run) -> Iterator[Objection]:
    """Streams of the crowd were in the middle when the fault came, and all of it ended whole.

    Raises:
        ChaosError: the experiment has no crowd that could be caught.
    """
    crowd = run.experiment.crowd
    if crowd is None:
        raise ChaosError(f"{run.experiment.name}: no crowd that could be caught")
    flow = crowd.clients.flow
    caught = len(run.record.caught(flow.name))
    samples = run.record.samples.get(flow.name, ())
    # Whom a governor turned away at once was never in the middle of anything.
    admitted = sum(sample.outcome is not Outcome.SHED for sample in samples)
    if caught < max(LEAST_CAUGHT, MOST * admitted):
        yield unknown(f"the fault caught {caught} of {admitted} streams in the middle")
    open_then = run.record.under_way(flow.name)
    torn = [sample for sample in open_then if not whole(sample, flow.tokens)]
    if torn:
        first = torn[0]
        yield fail(
            f"{len(torn)} of {len(open_then)} streams are not whole: {first.outcome.value}, "
            f"{first.output_tokens} of {flow.tokens} tokens, {first.error or 'no error'}"
        )


def errors_unchanged(run: Run) -> Iterator[Objection]:
    """No request of any flow failed or was cut while the fault lasted."""
    for clients in run.experiment.everyone:
        met = run.record.met(clients.flow.name)
        errors = [sample for sample in met if sample.outcome in ERRORS]
        if errors:
            kinds = sorted({sample.error or "" for sample in errors})
            yield fail(f"{clients.flow.name}: {len(errors)} of {len(met)} failed: {kinds}")


def ttft_shifted(run: Run, most: float) -> Iterator[Objection]:
    """TTFT of the proxied flows rose by no more than `most` seconds."""
    for clients in run.experiment.clients:
        name = clients.flow.name
        if clients.way != "proxied":
            continue
        found = shift(run.record.before(name), run.record.during(name))
        if found is None:
            yield unknown(f"{name}: no times to compare")
        elif found[1].low > most:
            yield fail(f"{name}: TTFT rose by {found[0]:.3f} s, surely more than {most:g} s")


def restarts(run: Run, exactly: int | None = None) -> Iterator[Objection]:
    """So many unplanned restarts of the runtime; without a number, at least one."""
    found = run.record.growth("phase5_runtime_restarts_total")
    if found is None:
        yield unknown("nobody knows how often the runtime was restarted")
    elif (exactly is None and not found) or (exactly is not None and found != exactly):
        wanted = "at least 1" if exactly is None else exactly
        yield fail(f"{found:g} restarts of the runtime, expected {wanted}")


def rolled_back(run: Run) -> Iterator[Objection]:
    """No stream that began behind the rollback was treated; those under way kept their arm."""
    treated = run.effect.values.get("of_them_treated")
    if not run.effect.values.get("streams_after"):
        yield unknown("no stream began behind the rollback")
    elif treated:
        yield fail(f"{treated} streams were treated behind the rollback")


def shed_politely(run: Run) -> Iterator[Objection]:
    """Whoever was not served was told to come again; nobody was cut or failed."""
    ends: Mapping[str, int] = run.effect.values.get("ends", {})
    rude = {name: ends[name] for name in ("failed", "cut", "rejected") if ends.get(name)}
    if rude:
        yield fail(f"under pressure requests ended as {rude}")


def measures_taken(run: Run, names: list[str]) -> Iterator[Objection]:
    """The engine took these measures against memory pressure."""
    actions: Mapping[str, float | None] = run.effect.values.get("actions", {})
    for name in names:
        if not actions.get(name):
            yield fail(f"measure {name!r} was not taken")


def storm_is_held(run: Run, actuator: str = "limit") -> Iterator[Objection]:
    """Many triggers at once were one execution; the loop was named; a breaker opened; calm."""
    record = run.record
    refused: Mapping[str, float | None] = run.effect.values.get("refused", {})
    looks = [look for look in record.looks if not look.error]
    executed = [look.total("remediations_executed") for look in looks]
    jumps = [new - old for old, new in changes(executed)]
    if max(jumps, default=0) > 1:
        yield fail(f"{max(jumps):g} executions at one look, expected 1")
    yield from _one_rollback(run.effect.values.get("rollback", {}), looks)
    if not refused.get("loop"):
        yield fail("no loop was named")
    if "remedies undo each other" not in record.log:
        yield fail("its log does not tell of a loop")
    opened = [look for look in looks if _breaker(look.status, actuator) == "open"]
    if not opened:
        yield fail(f"the breaker of {actuator} never opened")
        return
    behind = [look for look in looks if look.at >= opened[0].at]
    again = behind[-1].total("remediations_executed") - behind[0].total("remediations_executed")
    limits = [float(look.status["limit"]) for look in behind]
    if again:
        yield fail(f"{again:g} executions behind the open breaker")
    if len(list(changes(limits))) > 1:
        yield fail(f"the limit went on oscillating: {limits[:1]} {list(changes(limits))}")


def _one_rollback(rollback: Mapping[str, Any], looks: list[Look]) -> Iterator[Objection]:
    """However many asked for it: every one got the same brake, and the flag fell once."""
    if not rollback:
        yield unknown("nobody knows what became of the rollbacks")
        return
    flag, asked, answered = (rollback[word] for word in ("flag", "open_at_once", "answered"))
    if answered != asked:
        yield fail(f"{answered} of {asked} rollbacks were answered well")
    if len(rollback["brakes"]) != 1:
        yield fail(f"{asked} rollbacks at once drew {len(rollback['brakes'])} brakes, expected 1")
    shares = [float(look.status["flags"][flag]["effective"]) for look in looks]
    fell = list(changes(shares))
    if len(fell) != 1 or shares[-1]:
        yield fail(f"{flag} did not fall to 0 % once, and stay there: {fell}")


def others_unharmed(run: Run) -> Iterator[Objection]:
    """Flows that the fault was not aimed at had no error and no slower first token."""
    for clients in run.experiment.clients:
        name = clients.flow.name
        if clients.harmed or clients.way == "proxied":
            continue
        met = run.record.met(name)
        if not met:
            yield unknown(f"{name}: no request met the fault")
        errors = sum(sample.outcome is not Outcome.OK for sample in met)
        if errors:
            yield fail(f"{name}: {errors} of {len(met)} did not end well beside the fault")
        found = shift(run.record.before(name), run.record.during(name))
        limit = run.experiment.steady.ttft_seconds
        if found is not None and found[1].low > limit:
            yield fail(f"{name}: TTFT rose by {found[0]:.3f} s beside the fault")


def cleared_up(run: Run) -> Iterator[Objection]:
    """No stream of a client that is gone is left."""
    last = run.record.last()
    left = last.status.get("streams_in_flight") if last else None
    if left is None:
        yield unknown("nobody knows which streams are left")
    elif left:
        yield fail(f"{left} streams are left")


def answers_throughout(run: Run) -> Iterator[Objection]:
    """The engine said how it was at each look while the fault lasted."""
    looks = run.record.seen(INJECTED, HEALED)
    dumb = sum(bool(look.error) for look in looks)
    if not looks:
        yield unknown("nobody looked while the fault lasted")
    elif dumb:
        yield fail(f"{dumb} of {len(looks)} looks were not answered")


_ALL: Final = (
    all_caught_end_whole,
    answers_throughout,
    brake_holds_in_memory,
    cleared_up,
    errors_unchanged,
    guard_brakes_when_blind,
    guard_keeps_watch,
    measures_taken,
    others_unharmed,
    restarts,
    rolled_back,
    shed_politely,
    store_stays_whole,
    storm_is_held,
    ttft_shifted,
    verdict_stays_whole,
)
CHECKS: Final[Mapping[str, Check]] = {check.__name__: check for check in _ALL}


def objections(run: Run) -> Iterator[Objection]:
    """All objections of an experiment's expectations.

    Raises:
        ChaosError: an expectation names no check.
    """
    for expected in run.experiment.expects:
        if expected.check not in CHECKS:
            raise ChaosError(
                f"{run.experiment.name}: check {expected.check!r}; allowed: {', '.join(CHECKS)}"
            )
        yield from CHECKS[expected.check](run, **expected.arguments)


def _breaker(status: Mapping[str, Any], actuator: str) -> str:
    return str(status.get("qos", {}).get("breakers", {}).get(actuator, ""))
