"""Whether a run may be judged at all: the generator's checks on itself, pure.

A run that breaks one of them is invalid, not failed: it says nothing about the server.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import Any, Final, Literal

from gates.samples import Outcome, Sample
from pytest_phase5.load.plan import Driver, Plan
from pytest_phase5.load.schemas import check_schema, write_whole

REPORT_SCHEMA: Final = "phase5.load-run/1"
#: Share by which the achieved rate may miss the planned one.
RATE_TOLERANCE: Final = 0.02
LAG_QUANTILE: Final = 0.99
#: Who could not do more: the server, or the generator, after which the server's limit is unknown.
GaveWay = Literal["server", "generator"]
#: What each driver speaks, as samples have it.
PROTOCOLS: Final[Mapping[Driver, str]] = {"http1": "h1", "http2": "h2", "locust": "h1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What the child says of its run; written last, so that a dead child has none."""

    complete: bool
    reason: str  #: why it is not complete
    started: str  #: UTC, ISO 8601
    origin: float  #: `time.monotonic()` at the start: sample times count from here
    rows: int
    loop: str  #: the event loop's module
    connections: int | None = None  #: opened over the run, where the driver can count them
    stopped_at: int | None = None  #: the block (step) that was the last, if not all were sent
    stop_reason: str = ""
    stopped_by: GaveWay | None = None  #: who gave way in it
    late: tuple[int, ...] = ()  #: steps in which the generator was late: they did not hold
    faults: tuple[str, ...] = ()  #: what the driver itself found wrong with a complete run


def write_report(path: Path, report: RunReport) -> None:
    """Write the report at once or not at all."""
    write_whole(path, REPORT_SCHEMA, asdict(report))


def read_report(path: Path) -> RunReport:
    """Read a report back.

    Raises:
        ValueError: for anything but a report; it names the file.
        OSError: when the file cannot be read.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        check_schema(fields.pop("schema", None), REPORT_SCHEMA)
        lists: dict[str, Any] = {name: tuple(fields.pop(name, ())) for name in ("faults", "late")}
        return RunReport(**fields, **lists)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path.name}: not a run report: {error}") from error


def faults(plan: Plan, samples: Sequence[Sample], report: RunReport) -> Iterator[str]:
    """The reasons why this run is invalid; none when it may be judged."""
    if not report.complete:
        yield f"generator stopped early: {report.reason}"
    yield from report.faults
    yield from _row_fault(plan, samples, report)
    yield from _protocol_fault(plan, [sample for sample in samples if sample.sent is not None])
    yield from _step_fault(plan, report)
    for stretch in _stretches(plan, samples, report):
        yield from pace_faults(plan, stretch)


def pace_faults(plan: Plan, samples: Iterable[Sample]) -> Iterator[str]:
    """Where the generator did not send as planned; nothing when it kept up."""
    samples = list(samples)
    sent = [sample for sample in samples if sample.sent is not None]
    yield from _drop_fault(plan, samples)
    yield from _lag_fault(plan, sent)
    if not plan.closed:
        yield from _rate_fault(plan, sent)


def _stretches(
    plan: Plan, samples: Sequence[Sample], report: RunReport
) -> Iterator[Iterable[Sample]]:
    """What is judged as one: the run, or of steps each that held."""
    if plan.stop is None:
        yield samples
        return
    aside = {*report.late, report.stopped_at}
    for block, step in groupby(samples, key=lambda sample: sample.block):
        if block >= plan.stop.first and block not in aside:
            yield step


def _step_fault(plan: Plan, report: RunReport) -> Iterator[str]:
    """Steps that are too much for the generator from the first on show nothing."""
    if plan.stop is None or report.stopped_by != "generator" or report.stopped_at is None:
        return
    if len(report.late) > report.stopped_at - plan.stop.first:
        yield f"no step could be judged: {report.stop_reason}"


def _row_fault(plan: Plan, samples: Sequence[Sample], report: RunReport) -> Iterator[str]:
    planned = plan.measured_until(report.stopped_at)
    if [sample.index for sample in samples] != list(range(planned)):
        yield f"{len(samples)} rows, {planned} planned: rows are missing or repeated"
    elif report.rows != len(samples):
        yield f"{len(samples)} rows, the generator wrote {report.rows}"


def _drop_fault(plan: Plan, samples: Sequence[Sample]) -> Iterator[str]:
    """No room for a request means that the plan was not carried out."""
    dropped = sum(sample.outcome is Outcome.DROPPED for sample in samples)
    if dropped:
        yield f"{dropped} requests dropped > 0: {plan.max_in_flight} were in flight"


def _protocol_fault(plan: Plan, sent: Sequence[Sample]) -> Iterator[str]:
    spoken = Counter(sample.protocol for sample in sent)
    wanted = PROTOCOLS[plan.driver]
    other = sum(spoken.values()) - spoken[wanted]
    if other:
        yield f"{other} of {len(sent)} requests not over {wanted}, which the driver speaks"


def _lag_fault(plan: Plan, sent: Sequence[Sample]) -> Iterator[str]:
    lag = lag_of(sent)
    if lag is None:
        yield "no request was sent"
    elif lag > plan.lag_limit:
        yield f"dispatch lag p99 {lag * 1e3:.1f} ms > {plan.lag_limit * 1e3:.1f} ms"


def lag_of(samples: Iterable[Sample]) -> float | None:
    """Seconds that requests were sent late, at the 99th percentile; None if none was sent."""
    lags = sorted(sample.lag for sample in samples if sample.lag is not None)
    return lags[ceil(LAG_QUANTILE * len(lags)) - 1] if lags else None


def _rate_fault(plan: Plan, sent: Sequence[Sample]) -> Iterator[str]:
    """Compare how long the sending took with how long it should have taken.

    Lag up to its own limit is allowed here too: over a short run it is more than 2 %.
    """
    if not sent:
        return
    planned = max(s.scheduled for s in sent) - min(s.scheduled for s in sent)
    times = [s.sent for s in sent if s.sent is not None]
    achieved = max(times) - min(times)
    if abs(achieved - planned) > max(RATE_TOLERANCE * planned, plan.lag_limit):
        gaps = len(sent) - 1
        yield f"rate {gaps / achieved:.2f}/s, planned {gaps / planned:.2f}/s: off by more than 2 %"
