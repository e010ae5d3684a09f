"""When load ran, when faults were in force, and when service was back. Pure.

A measurement says when it ended, to the second; its requests say how long it took. A chaos
journal has a clock of its own and says when it began.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from gates.evidence import Measurement
from gates.samples import Outcome

#: The marks of a chaos journal between which its fault is in force.
_INJECTED: Final = "injected"
_HEALED: Final = "healed"

_BAD: Final = frozenset({Outcome.FAILED, Outcome.CUT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of time in a lane, in seconds from the beginning of the picture."""

    lane: str  #: `load`, `fault` or `recovery`
    begin: float
    end: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A line of the list beside the picture; `at` is UTC, or empty where nobody knows it."""

    at: str
    what: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Requests that count towards the error rate, until a moment."""

    at: float
    n: int
    bad: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What happened, from a first moment on."""

    begin: str = ""
    seconds: float = 0.0
    spans: tuple[Span, ...] = ()
    events: tuple[Event, ...] = ()
    growth: tuple[Step, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Piece:
    lane: str
    begin: datetime
    end: datetime
    text: str


def timeline_of(
    measurements: Sequence[Measurement], chaos: Sequence[Mapping[str, Any]]
) -> Timeline:
    """One picture of a session.

    Args:
        measurements: what the folder holds.
        chaos: whole journals of the experiments that evidence speaks of.
    """
    loads = [piece for measured in measurements for piece in _load(measured)]
    pieces = sorted([*loads, *_faults(chaos)], key=lambda piece: piece.begin)
    missing = tuple(_missing(measurements, chaos, any_load=bool(loads)))
    if not pieces:
        return Timeline(missing=missing)
    zero, last = pieces[0].begin, max(piece.end for piece in pieces)
    spans = tuple(
        Span(lane=p.lane, begin=_since(zero, p.begin), end=_since(zero, p.end), text=p.text)
        for p in pieces
    )
    return Timeline(
        begin=zero.isoformat(timespec="seconds"),
        seconds=_since(zero, last),
        spans=spans,
        events=tuple(_event(piece) for piece in pieces),
        growth=tuple(_growth(measurements, zero)),
        missing=missing,
    )


def _load(measured: Measurement) -> Iterator[_Piece]:
    span = _moments(measured)
    if span is None:
        return
    bad = sum(sample.outcome in _BAD for sample in measured.samples)
    flags = " against ".join(engine.flag_set for _, engine in sorted(measured.arms.items())[::-1])
    name = measured.item.rpartition("::")[2].partition("[")[0]
    text = f"{name}: {len(measured.samples)} requests, {bad} failed or cut, flags {flags}"
    yield _Piece("load", *span, text)


def _moments(measured: Measurement) -> tuple[datetime, datetime] | None:
    """When its first request was due and its last one ended."""
    end = _moment(measured.created)
    ends = [s.scheduled if s.end is None else s.end for s in measured.samples]
    if end is None or not ends:
        return None
    longest = max(ends) - min(sample.scheduled for sample in measured.samples)
    if not 0 <= longest < _LONGEST:
        return None
    return end - timedelta(seconds=longest), end


#: A run of more seconds than this did not happen: 31 years.
_LONGEST: Final = 1e9


def _faults(chaos: Iterable[Mapping[str, Any]]) -> Iterator[_Piece]:
    for journal in chaos:
        begun, marks = _moment(str(journal["started"])), _marks(journal)
        if begun is None or not {_INJECTED, _HEALED} <= marks.keys():
            continue
        injected, healed = (begun + timedelta(seconds=marks[m]) for m in (_INJECTED, _HEALED))
        name = journal["experiment"]
        yield _Piece("fault", injected, healed, f"{name}: {journal['title']}")
        recovery = journal["seconds"].get("recovery")
        if recovery is not None:
            back = healed + timedelta(seconds=recovery)
            yield _Piece("recovery", healed, back, f"{name}: steady again after {recovery:.3g} s")


def _marks(journal: Mapping[str, Any]) -> dict[str, float]:
    return {step["what"]: float(step["at"]) for step in journal["timeline"] if "ok" not in step}


def _missing(
    measurements: Sequence[Measurement], chaos: Sequence[Mapping[str, Any]], *, any_load: bool
) -> Iterator[str]:
    if not any_load:
        yield "No requests in this folder: nothing was under load."
    journals = [j.experiment for measured in measurements for j in measured.journals]
    told = {journal["experiment"] for journal in chaos}
    if not journals:
        yield "No chaos experiment in this folder."
    for name in sorted(set(journals) - told):
        yield f"No chaos journal of {name} in this folder: its times are not known."


def _growth(measurements: Sequence[Measurement], zero: datetime) -> Iterator[Step]:
    """How the requests that count towards the error rate came in."""
    moments = []
    for measured in measurements:
        span = _moments(measured)
        if span is None:
            continue
        first = min(sample.scheduled for sample in measured.samples)
        offset = _since(zero, span[0]) - first
        moments += [
            (offset + (s.scheduled if s.end is None else s.end), s.outcome in _BAD)
            for s in measured.samples
            if s.outcome is Outcome.OK or s.outcome in _BAD
        ]
    bad = 0
    for n, (at, broken) in enumerate(sorted(moments), start=1):
        bad += broken
        yield Step(at=at, n=n, bad=bad)


def _event(piece: _Piece) -> Event:
    at = piece.begin.isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")
    seconds = (piece.end - piece.begin).total_seconds()
    return Event(at=at, what=piece.lane, detail=f"{piece.text} ({seconds:.3g} s)")


def _since(zero: datetime, moment: datetime) -> float:
    return (moment - zero).total_seconds()


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.utcoffset() is not None else None
