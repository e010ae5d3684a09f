"""Whether a measurement may be believed: of this run, this build, this time, and whole.

What another run measured counts where its criterion takes evidence from elsewhere: on the same
machine class, by an item that passed there, or by a load or chaos run, which answers for itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from engine.core.flags import FlagSetError, parse_flag_set
from gates.criteria import Criterion
from gates.evidence import CHAOS_ITEM, LOAD_ITEM, REPORT_ITEM, EngineIdentity, Measurement
from gates.groups import CONTROL, TREATMENT
from gates.planned import Session
from gates.samples import Outcome, Sample
from gates.verdict import Subject

#: How far ahead the clock of another machine may be: time servers keep them far closer.
CLOCK_SKEW: Final = timedelta(seconds=5)

#: Seconds from the start of a run that no run reaches; infinite and absurd times are beyond.
_LONGEST: Final = 1e9


#: What a build says that cannot tell its commit.
NO_IDENTITY: Final = frozenset({"", "unknown"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What the evidence of a verdict must come from."""

    session: Session  #: the judged one
    subject: Subject
    now: datetime
    machine: str = ""  #: class of the machine that the session ran on; empty: not known
    others: Mapping[str, Session] = field(default_factory=dict)  #: other runs, by id


def flaws(measurement: Measurement) -> Iterator[str]:
    """What is wrong with a measurement itself, whoever asks."""
    if not measurement.valid:
        yield measurement.invalid_reason or "declared invalid without a reason"
    yield from _of_samples(measurement)


def doubts(criterion: Criterion, measurement: Measurement, origin: Origin) -> Iterator[str]:
    """Why a measurement without a flaw may not be of what is judged; none means that it is."""
    if measurement.run != origin.session.run:
        yield from _of_elsewhere(criterion, measurement, origin)
    else:
        yield from _of_plan(criterion, measurement, origin.session)
    yield from _of_age(measurement.created, origin.now, timedelta(hours=criterion.max_age_hours))
    for arm, engine in measurement.arms.items():
        yield from _of_engine(arm, engine, origin.subject)


def _of_elsewhere(criterion: Criterion, measurement: Measurement, origin: Origin) -> Iterator[str]:
    stranger = f"of run {measurement.run!r}, not of this run {origin.session.run!r}"
    ours = origin.subject.commit
    if not criterion.elsewhere:
        yield f"{stranger}; {criterion.id} takes no evidence from elsewhere"
    elif ours in NO_IDENTITY:
        yield f"{stranger}, and a build without a commit cannot be told from another"
    elif measurement.item.startswith(REPORT_ITEM):
        if measurement.commit != ours:
            yield f"is about commit {measurement.commit!r}, the subject is {ours!r}"
    else:
        if not origin.machine or measurement.machine != origin.machine:
            yield f"{stranger}, on machine {measurement.machine!r}, not on {origin.machine!r}"
        yield from _of_its_own_run(criterion, measurement, origin.others.get(measurement.run))


def _of_its_own_run(
    criterion: Criterion, measurement: Measurement, session: Session | None
) -> Iterator[str]:
    """An item must have passed where it ran, in a session that ended well."""
    if session is not None:
        yield from session.problems
        yield from _of_plan(criterion, measurement, session)
        item = session.item(measurement.item)
        if item is not None and item.problem:
            yield f"of {measurement.item}, which did not pass: {item.problem}"
    elif not measurement.item.startswith((LOAD_ITEM, CHAOS_ITEM)):
        yield f"of run {measurement.run!r}, whose attempts are not here"


def _of_plan(criterion: Criterion, measurement: Measurement, session: Session) -> Iterator[str]:
    item = session.item(measurement.item)
    if item is None:
        yield f"of {measurement.item}, which was not planned"
    elif criterion.id not in item.criteria:
        yield f"of {measurement.item}, which was not planned for {criterion.id}"
    elif not item.problem and measurement.attempt != item.attempt:
        yield f"of attempt {measurement.attempt} of {measurement.item}, not of its only one"


def _of_age(created: str, now: datetime, max_age: timedelta) -> Iterator[str]:
    try:
        age = now - datetime.fromisoformat(created)
    except (ValueError, TypeError):
        yield f"created at {created!r}, which is no time with a zone"
        return
    if age < -CLOCK_SKEW:
        yield f"from the future: created {created}, now {now.isoformat()}"
    if age > max_age:
        yield f"stale: created {created}, older than {max_age}"


def _of_engine(arm: str, engine: EngineIdentity, subject: Subject) -> Iterator[str]:
    if arm not in (TREATMENT, CONTROL):
        yield f"arm {arm!r}; allowed: {TREATMENT}, {CONTROL}"
    try:
        parse_flag_set(engine.flag_set)
    except FlagSetError as error:
        yield str(error)
    expected = {
        "commit": subject.commit,
        "engine_version": subject.engine_version,
        "config_sha256": subject.config_sha256,
        "model_sha256": subject.models.get(engine.model),
    }
    for name, wanted in expected.items():
        if getattr(engine, name) != wanted:
            yield f"{arm} had {name} {getattr(engine, name)!r}, the subject has {wanted!r}"


def _of_samples(measurement: Measurement) -> Iterator[str]:
    indices = [sample.index for sample in measurement.samples]
    if len(set(indices)) != len(indices):
        yield "a request appears twice"
    complaints = (_of_sample(sample, measurement) for sample in measurement.samples)
    bad = [complaint for complaint in complaints if complaint]
    if bad:
        yield f"{bad[0]}" + (f" (and {len(bad) - 1} more requests)" if len(bad) > 1 else "")


def _of_sample(sample: Sample, measurement: Measurement) -> str:
    where = f"request {sample.index}"
    engine = measurement.arms.get(sample.arm)
    if engine is None:
        return f"{where}: arm {sample.arm!r} has no engine"
    if sample.outcome is Outcome.DROPPED:
        return f"{where}: the generator had no room for it"
    if not _ordered(sample):
        return f"{where}: its times are not finite and in order"
    if (sample.flags is not None or sample.outcome is Outcome.OK) and not _same(
        sample.flags, engine.flag_set
    ):
        return f"{where}: came back with flags {sample.flags!r}, the arm has {engine.flag_set!r}"
    return ""


def _ordered(sample: Sample) -> bool:
    last = -_LONGEST
    for time in (sample.scheduled, sample.sent, sample.first_token, sample.end):
        if time is not None:
            if not last <= time < _LONGEST:  # nor if it is no number
                return False
            last = time
    return True


@lru_cache(maxsize=256)  # a run has a handful of pairs, and a hundred thousand requests
def _same(came_back: str | None, flag_set: str) -> bool:
    try:
        return came_back is not None and parse_flag_set(came_back) == parse_flag_set(flag_set)
    except FlagSetError:
        return False
