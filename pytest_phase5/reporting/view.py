"""What a report shows, worked out from what was read. Pure: all forms print what stands here."""

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Final

from engine.core.flags import FLAGS
from gates.criteria import HIGHER, Criterion, Measure
from gates.evidence import VERDICT_FILE
from gates.findings import Finding
from gates.groups import CONTROL, TREATMENT, Group, flags_of, grouped
from gates.ledger_file import Ledger
from gates.rows import Judged
from gates.samples import Outcome as Ended
from gates.samples import Sample
from gates.shown import Shown, number, shown, worst_first
from gates.statistics import quantile
from gates.verdict import CriterionRow, EvidenceFile, Verdict, rounded
from pytest_phase5.reporting.headline import Headline, absent, headline
from pytest_phase5.reporting.reading import Gathered
from pytest_phase5.reporting.times import Timeline, timeline_of

#: Distributions that are drawn, those with a control first; the others are named.
MOST_DISTRIBUTIONS: Final = 10

#: The quantiles of the requirements.
QUANTILES: Final = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One criterion for a drawing: numbers that are finite, or None."""

    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    open_low: bool = False  #: the interval goes on beyond what is drawn
    open_high: bool = False
    limit: float | None = None
    stretch: float | None = None
    higher: bool | None = None  #: more is better; None: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A criterion as it is printed and as it is drawn."""

    told: Shown
    mark: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """The times of one arm, in milliseconds and in order."""

    name: str
    flag_set: str
    values: tuple[float, ...]
    quantiles: tuple[str, ...]
    without: int  #: requests that have no such time: they failed, were cut, shed or left


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Times of one test, beside each other where it compared arms."""

    title: str
    where: str
    arms: tuple[Arm, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """Live traffic of a flag until a minute: shares of requests that failed or were cut, in %."""

    at: float  #: minutes from the first
    treatment: float | None
    control: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one group of a criterion came to, for the flags that it is about."""

    flags: str
    told: Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All of a report, in the order of the page."""

    headline: Headline
    rows: tuple[Row, ...]
    effects: tuple[Effect, ...]
    distributions: tuple[Distribution, ...]
    not_drawn: tuple[str, ...]
    timeline: Timeline
    live: tuple[tuple[str, tuple[Minute, ...]], ...]
    environment: tuple[tuple[str, str], ...]
    files: tuple[EvidenceFile, ...]
    problems: tuple[str, ...]
    verification: str
    verify_command: str
    digest: str


def view_of(gathered: Gathered, now: datetime) -> View:
    """The view of a folder as it is read at a moment."""
    verdict = gathered.verdict
    head = (
        absent(gathered.problem, gathered.folder)
        if verdict is None
        else headline(verdict, gathered.folder, now=now, differences=gathered.differences)
    )
    groups = sorted(grouped(gathered.evidence.measurements), key=_rank)
    timed = [found for group in groups for found in _distributions(group)]
    return View(
        headline=head,
        rows=_rows(verdict, gathered.criteria),
        effects=tuple(_effects(gathered.judged)),
        distributions=tuple(timed[:MOST_DISTRIBUTIONS]),
        not_drawn=tuple(f"{one.title}, {one.where}" for one in timed[MOST_DISTRIBUTIONS:]),
        timeline=timeline_of(gathered.evidence.measurements, gathered.chaos),
        live=tuple((_name(ledger), _minutes(ledger)) for ledger in gathered.evidence.ledgers),
        environment=tuple(_environment(verdict)),
        files=verdict.evidence if verdict else gathered.evidence.files,
        problems=gathered.evidence.problems,
        verification=_verification(gathered),
        verify_command=shlex.join(
            ["phase5", "gate", "verify", f"{gathered.folder}/{VERDICT_FILE}"]
        ),
        digest=gathered.digest,
    )


def mark_of(row: CriterionRow, criterion: Criterion | None) -> Mark:
    """What can be drawn of a row: numbers that are none leave no mark."""
    low, high = row.interval or (None, None)
    return Mark(
        estimate=_finite(row.estimate),
        low=_finite(low),
        high=_finite(high),
        open_low=row.interval is not None and _finite(low) is None,
        open_high=row.interval is not None and _finite(high) is None,
        limit=_finite(row.limit),
        stretch=_finite(criterion.stretch) if criterion else None,
        higher=None if criterion is None else _higher(criterion),
    )


def _rows(verdict: Verdict | None, criteria: Sequence[Criterion]) -> tuple[Row, ...]:
    known = {criterion.id: criterion for criterion in criteria}
    rows = worst_first(verdict) if verdict else []
    return tuple(Row(told=shown(row), mark=mark_of(row, known.get(row.id))) for row in rows)


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def _higher(criterion: Criterion) -> bool:
    return criterion.measure in HIGHER or criterion.measure is Measure.SOAK


def _effects(judged: Iterable[Judged]) -> Iterator[Effect]:
    """Each group that was measured, under the flags that were on in it."""
    for one in judged:
        for finding in one.findings:
            yield Effect(
                flags="+".join(flag for flag in FLAGS if flag in finding.flags) or "off or any",
                told=shown(_as_row(one, finding)),
            )


def _as_row(judged: Judged, finding: Finding) -> CriterionRow:
    interval = finding.interval
    return CriterionRow(
        id=judged.criterion.id,
        outcome=finding.outcome,
        reason=finding.reason,
        estimate=rounded(finding.estimate),
        interval=(rounded(interval.low), rounded(interval.high)) if interval else None,
        limit=rounded(finding.limit),
        n=finding.n,
        source=judged.criterion.source,
        needs=finding.needs,
    )


def _rank(group: Group) -> tuple[bool, int, str, str]:
    """Comparisons first, then the fewest flags: one flag's own effect before all together."""
    return (group.control is None, len(flags_of(group.flag_set)), group.flag_set, group.item)


def _distributions(group: Group) -> Iterator[Distribution]:
    arms = {TREATMENT: group.flag_set} | ({CONTROL: group.control} if group.control else {})
    samples = {arm: list(group.samples(arm)) for arm in arms}
    for title, time in (("Time to first token", _ttft), ("Latency", _latency)):
        found = tuple(_arm(arm, arms[arm], times, time) for arm, times in samples.items())
        if any(arm.values for arm in found):
            yield Distribution(
                title=title, where=f"{group.item.rpartition('::')[2]}, {group.model}", arms=found
            )


def _arm(
    name: str, flag_set: str, samples: Sequence[Sample], time: Callable[[Sample], float | None]
) -> Arm:
    known = (time(sample) for sample in samples if sample.outcome is Ended.OK)
    values = tuple(sorted(1e3 * t for t in known if t is not None and isfinite(t) and t > 0))
    at = tuple(number(quantile(values, share)) if values else "?" for share in QUANTILES)
    without = len(samples) - len(values)
    return Arm(name=name, flag_set=flag_set, values=values, quantiles=at, without=without)


def _ttft(sample: Sample) -> float | None:
    return sample.ttft


def _latency(sample: Sample) -> float | None:
    return sample.latency


def _name(ledger: Ledger) -> str:
    return f"{ledger.header.flag}, epoch {ledger.header.epoch}"


def _minutes(ledger: Ledger) -> tuple[Minute, ...]:
    """Shares from the first minute on: they settle, where those of single minutes jump."""
    n: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    found = []
    for row in ledger.rows:
        for counts in () if row.invalid else row.counts:
            n[counts.arm] += counts.n
            bad[counts.arm] += counts.bad
        share = {arm: 100 * bad[arm] / n[arm] if n[arm] else None for arm in (TREATMENT, CONTROL)}
        at = float(row.minute - ledger.rows[0].minute)
        found.append(Minute(at=at, treatment=share[TREATMENT], control=share[CONTROL]))
    return tuple(found)


def _environment(verdict: Verdict | None) -> Iterator[tuple[str, str]]:
    if verdict is None:
        return
    subject = verdict.subject
    yield "engine", subject.engine_version
    yield "commit", subject.commit
    yield "configuration", subject.config_sha256
    yield "policy", subject.policy_sha256
    for name, sha256 in sorted(subject.models.items()):
        yield f"model {name}", sha256
    for flag, epoch in sorted(subject.epochs.items()):
        yield f"epoch of {flag}", str(epoch)
    yield from sorted(verdict.environment.items())
    yield "created", verdict.created
    yield "expires", verdict.expires


def _verification(gathered: Gathered) -> str:
    if gathered.verdict is None:
        return "There is no verdict to verify."
    if gathered.differences:
        return "Recomputed from the evidence, and it differs: " + "; ".join(gathered.differences)
    return "Recomputed from the evidence when this page was written: identical."
