"""Small builders of runs: a healthy one by default, and one thing changed at a time."""

from dataclasses import replace
from typing import Any

from chaos.experiment import Clients, Experiment, Fault, Spans
from chaos.observing import Look, Value
from chaos.record import Effect, Record
from gates.evidence import Flow, Outcome, Sample

FLOW = Flow(name="steady", rate=10, tokens=8)
EXPERIMENT = Experiment(
    name="trial",
    title="a trial",
    description="of nothing",
    fault=Fault(kind="kill"),
    clients=(Clients(flow=FLOW),),
    short=Spans(before=2, hold=1, after=3),
    full=Spans(before=2, hold=1, after=3),
)
#: Baseline for two seconds, a fault of one, and three behind it.
MARKS = {"baseline": 100.0, "ready": 102.0, "injected": 103.0, "healed": 104.0, "ended": 107.0}
PROVEN = Effect(values={"seen": 1}, proven=True)


def sample(at: float, **changes: Any) -> Sample:
    """A request that was due at a time and answered within 0.1 s."""
    fine = Sample(
        index=round(at * 1000),
        arm="treatment",
        block=0,
        scheduled=at,
        sent=at,
        first_token=at + 0.05,
        end=at + 0.1,
        outcome=Outcome.OK,
        output_tokens=FLOW.tokens,
    )
    return replace(fine, **changes)


def steady(begin: float = 100.0, end: float = 107.0, rate: float = 10) -> list[Sample]:
    """Requests at a rate, all well."""
    return [sample(begin + number / rate) for number in range(round((end - begin) * rate))]


def look(at: float, *, restarts: float = 0, error: str = "", **status: Any) -> Look:
    """A look at a healthy engine."""
    if error:
        return Look(at=at, error=error)
    values = (Value("phase5_runtime_restarts_total", {}, restarts),)
    fine = {"ready": True, "replicas": [{"pid": 7, "state": "ready"}], "streams_in_flight": 0}
    return Look(at=at, status={**fine, **status}, values=values)


def record(samples: list[Sample] | None = None, **changes: Any) -> Record:
    """A run in which service never suffered."""
    looks = tuple(look(100 + tenth / 10) for tenth in range(71))
    found = steady() if samples is None else samples
    fine = Record(begun=99.0, marks=MARKS, samples={FLOW.name: tuple(found)}, looks=looks)
    return replace(fine, **changes)


def spoiled(samples: list[Sample], since: float, until: float, **changes: Any) -> list[Sample]:
    """With those that were due in between changed."""
    return [replace(s, **changes) if since <= s.scheduled < until else s for s in samples]
