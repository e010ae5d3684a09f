"""From what was seen to a verdict. Pure.

In this order: what was cut short is aborted; what was not steady before, not in force or not
proven is invalid; what broke a promise is fail; what cannot be told is inconclusive; the rest
is pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from chaos.checks import objections
from chaos.experiment import Clients, Experiment
from chaos.objecting import Run, Weight
from chaos.observing import Look
from chaos.record import ENDED, HEALED, INJECTED, Effect, Record, whole
from chaos.windows import ERRORS, recovered_at, unsteady
from gates.evidence import ChaosVerdict, Outcome, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One action of the run, or one rollback, and how it went."""

    what: str
    at: float
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the run has to say for itself beside its record."""

    interrupted: str = ""  #: by what, where it was cut short
    invalid: tuple[str, ...] = ()  #: what kept it from being an experiment at all
    leaks: tuple[str, ...] = ()  #: what the engine holds that it did not hold before
    steps: tuple[Step, ...] = ()
    rollbacks: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds: from the fault to its first sign and to a remedy; from its end to service."""

    detection: float | None = None
    remediation: float | None = None
    recovery: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a run showed."""

    verdict: ChaosVerdict
    reasons: tuple[str, ...] = ()
    steady_before: bool = False
    steady_after: bool = False
    times: Times = field(default_factory=Times)
    lost_streams: int = 0
    charged: int = 0  #: errors that the fault is to answer for, and no error budget


def judge(experiment: Experiment, record: Record, effect: Effect, told: Told) -> Judgement:
    """The verdict of a run."""
    steady = bool(record.samples) and not list(_unsteady(experiment, record))
    times = _times(experiment, record)
    lost = sum(len(_lost(clients, record)) for clients in experiment.everyone)
    run = Run(experiment=experiment, record=record, effect=effect)
    verdict, reasons = _verdict(run, told, times.recovery, lost)
    return Judgement(
        verdict=verdict,
        reasons=tuple(reasons),
        steady_before=steady,
        steady_after=times.recovery is not None,
        times=times,
        lost_streams=lost,
        charged=_charged(experiment, record),
    )


def _verdict(
    run: Run, told: Told, recovery: float | None, lost: int
) -> tuple[ChaosVerdict, list[str]]:
    if told.interrupted:
        return ChaosVerdict.ABORTED, [told.interrupted]
    doubts = [*told.invalid, *_unsteady(run.experiment, run.record)]
    if not doubts and not run.effect.proven:
        doubts = [f"the fault is not proven: {run.effect.why}"]
    if doubts:
        return ChaosVerdict.INVALID, doubts
    found = list(objections(run))
    broken = [
        *_not_recovered(run.experiment, recovery),
        *([f"{lost} streams lost"] if lost else []),
        *(each.why for each in found if each.weight is Weight.FAIL),
        *told.leaks,
        *(f"rollback {step.what}: {step.detail}" for step in told.rollbacks if not step.ok),
    ]
    if broken:
        return ChaosVerdict.FAIL, broken
    unknown = [each.why for each in found]
    return (ChaosVerdict.INCONCLUSIVE, unknown) if unknown else (ChaosVerdict.PASS, [])


def _unsteady(experiment: Experiment, record: Record) -> Iterator[str]:
    for clients in experiment.clients:
        name = clients.flow.name
        before = record.before(name) if record.samples.get(name) else []
        for why in unsteady(before, experiment.steady):
            yield f"not steady before the fault: {name}: {why}"


def _not_recovered(experiment: Experiment, recovery: float | None) -> Iterator[str]:
    limit = experiment.recover_seconds
    if recovery is None:
        yield "service did not come back while it was watched"
    elif recovery > limit:
        yield f"recovered after {recovery:.3g} s > {limit:g} s"


def _times(experiment: Experiment, record: Record) -> Times:
    marks = record.marks
    if INJECTED not in marks:
        return Times()
    injected = marks[INJECTED]
    since = [look for look in record.looks if look.at >= injected]
    signs = (look.at - injected for look in since if not look.well)
    base = record.last_before_fault()
    deeds = (
        look.at - injected
        for look in since
        if base is not None and not look.error and _deeds(look) > _deeds(base)
    )
    return Times(
        detection=next(signs, None),
        remediation=next(deeds, None),
        recovery=recovery(experiment, record),
    )


#: What an engine does about a fault by itself, as it counts.
_DEEDS = ("phase5_runtime_restarts_total", "phase5_memory_actions_total", "remediations_executed")


def _deeds(look: Look) -> float:
    return sum(look.total(name) for name in _DEEDS)


def recovery(experiment: Experiment, record: Record) -> float | None:
    """Seconds from heal until service was back for everybody; None: not while it was watched."""
    if ENDED not in record.marks or HEALED not in record.marks:
        return None
    healed, until = record.at(HEALED), record.at(ENDED)
    latest = 0.0
    for clients in experiment.clients:
        back = recovered_at(record.after(clients.flow.name), healed, until, experiment.steady)
        if back is None:
            return None
        latest = max(latest, back - healed)
    return latest


def _lost(clients: Clients, record: Record) -> list[Sample]:
    """Streams of unharmed clients that began and did not end whole; of others, what never ended."""
    samples = record.samples.get(clients.flow.name, ())
    if clients.harmed:
        return [s for s in samples if s.sent is not None and s.end is None]
    return [
        s
        for s in samples
        if (s.sent is not None and s.end is None)
        or s.outcome is Outcome.CUT
        or (s.outcome is Outcome.OK and not whole(s, clients.flow.tokens))
    ]


def _charged(experiment: Experiment, record: Record) -> int:
    if INJECTED not in record.marks or HEALED not in record.marks:
        return 0
    flows = [clients.flow.name for clients in experiment.everyone]
    return sum(sample.outcome in ERRORS for flow in flows for sample in record.met(flow))
