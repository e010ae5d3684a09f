"""What a drill showed, as evidence. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gates.engine_views import EngineView
from gates.evidence import LOAD_ITEM
from gates.groups import lost_counts
from gates.guarding.rehearsal import Timing
from gates.journal import ChaosVerdict, Journal
from gates.samples import Outcome, Sample

#: As criteria name it among their experiments.
EXPERIMENT: Final = "rollback-drill"

#: The item of a drill outside of pytest.
DRILL_ITEM: Final = f"{LOAD_ITEM}{EXPERIMENT}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Requests to one engine; `origin` is when their clock began, on the steady clock."""

    url: str
    origin: float
    samples: tuple[Sample, ...]
    trouble: str = ""  #: why the sender itself was not up to it

    def sent(self, since: float) -> Iterator[Sample]:
        """Those sent after some moment of the steady clock."""
        return (s for s in self.samples if s.sent is not None and self.origin + s.sent > since)

    def live(self, at: float) -> Iterator[Sample]:
        """Those that were under way at some moment; one without an end was, too."""
        for sample in self.samples:
            begun = sample.sent is not None and self.origin + sample.sent <= at
            if begun and (sample.end is None or self.origin + sample.end > at):
                yield sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Drilled:
    """A drill that was carried out."""

    flag: str
    timing: Timing
    begun: float  #: when the harm was there to be seen, on the steady clock
    stretches: tuple[Stretch, ...]
    engines: tuple[EngineView, ...]  #: as they were at the end
    problems: tuple[str, ...] = field(default=())  #: what else went wrong: an engine, the store

    @property
    def samples(self) -> list[Sample]:
        """All requests."""
        return [sample for stretch in self.stretches for sample in stretch.samples]

    @property
    def live(self) -> int:
        """Streams that were under way when the rollback began."""
        return sum(1 for stretch in self.stretches for _ in stretch.live(self.begun))

    @property
    def lost(self) -> int:
        """Accepted streams that did not come to their end."""
        failed = sum(s.outcome is Outcome.FAILED for s in self.samples)
        return lost_counts(self.samples).bad + failed

    @property
    def treated_before(self) -> int:
        """Requests with the flag on before the rollback was everywhere."""
        after = {id(sample) for sample in self._after()}
        return _treated((s for s in self.samples if id(s) not in after), self.flag)

    @property
    def treated_after(self) -> int:
        """Requests with the flag on that were sent when every engine had confirmed 0 %."""
        return _treated(self._after(), self.flag)

    @property
    def answered_after(self) -> int:
        """Requests sent since then that ended well."""
        return sum(sample.outcome is Outcome.OK for sample in self._after())

    def _after(self) -> list[Sample]:
        since = self.begun + self.timing.apply
        return [sample for stretch in self.stretches for sample in stretch.sent(since)]


def journal_of(drilled: Drilled, requested: Mapping[str, Any]) -> Journal:
    """The row that a gate judges: `recovery_seconds` is the time until all had converged."""
    timing = drilled.timing
    reasons = tuple(_reasons(drilled))
    return Journal(
        experiment=EXPERIMENT,
        steady_before=drilled.live > 0 and drilled.treated_before > 0,
        steady_after=drilled.answered_after > 0,
        proven=drilled.treated_before > 0 and drilled.treated_after == 0,
        lost_streams=drilled.lost,
        verdict=ChaosVerdict.FAIL if reasons else ChaosVerdict.PASS,
        recovery_seconds=timing.converge,
        requested=dict(requested),
        read_back={
            view.url: {
                "effective": view.flags[drilled.flag].effective,
                "brake": view.flags[drilled.flag].brake,
                "generation": view.generation,
            }
            for view in drilled.engines
        },
        measured={
            "detect_seconds": timing.detect,
            "decide_seconds": timing.decide,
            "apply_seconds": timing.apply,
            "converge_seconds": timing.converge,
            "engine_seconds": dict(timing.engines),
            "live_streams": drilled.live,
            "requests": len(drilled.samples),
            "treated_before": drilled.treated_before,
            "treated_after": drilled.treated_after,
        },
        reasons=reasons,
    )


def _reasons(drilled: Drilled) -> Iterator[str]:
    yield from drilled.problems
    yield from dict.fromkeys(s.trouble for s in drilled.stretches if s.trouble)
    if drilled.lost:
        yield f"{drilled.lost} accepted streams lost"
    if drilled.treated_after:
        yield f"{drilled.treated_after} requests got {drilled.flag} after every engine was at 0 %"
    for view in drilled.engines:
        if not view.flags[drilled.flag].off:
            yield f"{view.url} serves {drilled.flag} again"


def _treated(samples: Iterable[Sample], flag: str) -> int:
    return sum(flag in (sample.flags or "").split("+") for sample in samples)


def lines(drilled: Drilled, journal: Journal) -> Sequence[str]:
    """For people."""
    timing = drilled.timing
    return (
        f"{drilled.flag} rolled back on {len(drilled.engines)} engines",
        f"streams   {drilled.live} live then, {len(drilled.samples)} requests in all",
        f"detect    {timing.detect:.2f} s after the harm was in the ledger",
        f"decide    {timing.decide:.2f} s: verdict and intent on the disk",
        f"apply     {timing.apply:.2f} s: every engine at 0 %",
        f"converge  {timing.converge:.2f} s: store written, every engine has its state",
        f"lost streams: {drilled.lost}",
        *(f"problem: {reason}" for reason in journal.reasons),
        f"drill: {journal.verdict.value}",
    )
