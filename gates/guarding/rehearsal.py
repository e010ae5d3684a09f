"""A rollback rehearsed: real engines, a real store and the real guard, on evidence that is made up.

A drill breaks nothing. It gives the guard minutes in which a flag does harm, as a ledger has them,
and times what follows: until the flag is convicted (detect), until verdict and intent are on the
disk (decide), until every engine confirmed 0 % (apply), and until the store knows and every engine
has its state (converge). In production a minute must also pass and be closed first: up to 60 s and
`CLOSED_AFTER` more.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final

from gates.direct import Direct
from gates.engine_views import EngineView
from gates.engines import EngineClient, ask_each
from gates.guarding.evidence import Evidence
from gates.guarding.loop import Guard
from gates.guarding.sight import GRACE
from gates.history import Record
from gates.ledger import CLOSED_AFTER, CONTROL, TREATMENT, Counts, Header, Row, Unit, minute_of
from gates.stages import Policy
from gates.standing import Standing
from gates.store import Snapshot, Store

#: The stage that is rehearsed: half of the traffic, where a rollback moves most of it.
STAGE: Final = "mid"

#: Requests a minute in the made-up minutes, and how many of the treatment's fail: far beyond doubt.
_REQUESTS: Final = 6_000
_FAILED: Final = 600

#: Seconds for the engines to take the state that a drill begins with.
_BEGIN_SECONDS: Final = 10.0

#: Seconds in which a rollback must have worked: the requirements' five minutes.
PATIENCE: Final = 300.0


class DrillError(RuntimeError):
    """A drill that could not be carried out. The message says what was missing."""


@dataclass(slots=True)
class MadeUp:
    """Minutes for a drill. What engines are, and how they count, they are asked themselves."""

    engines: tuple[str, ...]
    real: Evidence
    now: datetime
    harmful: bool = False

    def header(self, flag: str, standing: Standing, now: datetime) -> Header:
        """See `gates.guarding.evidence.Minutes`."""
        del now  # the engines were asked once, before their load
        return self.real.header(flag, standing, self.now)

    def rows(self, header: Header, first: int, last: int) -> Iterator[Row]:
        """See `gates.guarding.evidence.Minutes`: healthy ones, and a harmful last on demand."""
        closed = minute_of(self.now - timedelta(seconds=CLOSED_AFTER)) - 1
        for minute in range(first, min(last, closed if self.harmful else closed - 1) + 1):
            yield Row(
                minute=minute,
                counts=_counts(header, _FAILED if minute == closed else 0, self.engines[0]),
                engines=self.engines,
                commit=header.commit,
                config_sha256=header.config_sha256,
            )


def _counts(header: Header, failed: int, engine: str) -> tuple[Counts, ...]:
    treated = round(_REQUESTS * header.share)
    named = engine if header.unit is Unit.BLOCK else ""
    return tuple(
        Counts(
            arm=arm,
            engine=named,
            ok=n - bad,
            failed=bad,
            ttft=(n, *(0 for _ in header.ttft_edges)),
            latency=(n, *(0 for _ in header.latency_edges)),
        )
        for arm, n, bad in ((TREATMENT, treated, failed), (CONTROL, _REQUESTS - treated, 0))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds since the harm was there to be seen, each later than the one before."""

    detect: float
    decide: float
    apply: float
    converge: float
    engines: Mapping[str, float] = field(default_factory=dict)  #: until each confirmed 0 %


async def begin(
    store: Store, policy: Policy, flag: str, guard: Guard, engines: tuple[EngineClient, ...]
) -> Snapshot:
    """Bring a scratch store, and then its engines, to the stage that is rehearsed.

    Raises:
        DrillError: an engine does not serve it.
    """
    now = guard.clock()
    before = store.read()
    share = policy.stages[STAGE].percentage
    standing = Standing(
        stage=STAGE,
        enabled=True,
        percentage=share,
        entered_at=now - GRACE - timedelta(minutes=2),
        epoch=before.flags[flag].epoch + 1,
        salt=before.flags[flag].salt,
    )
    record = Record(event="drill", reason="a drill begins", who="drill", at=now)
    after = await asyncio.to_thread(store.write, before, {flag: standing}, record)
    deadline = monotonic() + _BEGIN_SECONDS
    while True:
        await guard.poll(engines)
        views = await seen(engines)
        late = [v.url for v in views if v.flags[flag].effective != share]
        if len(views) == len(engines) and not late:
            return after
        if monotonic() > deadline:
            raise DrillError(f"{', '.join(late) or 'an engine'} does not serve {flag}")


async def rolled_back(
    guard: Guard, evidence: MadeUp, flag: str, engines: tuple[EngineClient, ...]
) -> Timing:
    """Let the guard see the harm, and time what it does.

    Raises:
        DrillError: it is not done within `PATIENCE`.
    """
    marks = guard.deeds.marks
    marks.clear()
    begun = monotonic()
    evidence.harmful = True
    while "closed" not in marks:
        await guard.poll(engines)
        if monotonic() - begun > PATIENCE:
            raise DrillError(f"not rolled back after {PATIENCE:g} s: reached {', '.join(marks)}")
    while not await _settled(guard, flag, engines):
        await guard.poll(engines)
        if monotonic() - begun > PATIENCE:
            raise DrillError(f"engines do not have the store's state after {PATIENCE:g} s")
    confirmed = {e.url: marks[f"braked:{e.url}"] - begun for e in engines}
    return Timing(
        detect=marks["convicted"] - begun,
        decide=marks["opened"] - begun,
        apply=max(confirmed.values()),
        converge=monotonic() - begun,
        engines=confirmed,
    )


async def _settled(guard: Guard, flag: str, engines: tuple[EngineClient, ...]) -> bool:
    store = guard.reading.view
    views = await seen(engines)
    return (
        store is not None
        and len(views) == len(engines)
        and all(v.flags[flag].off and v.generation >= store.generation for v in views)
    )


async def seen(engines: tuple[EngineClient, ...]) -> list[EngineView]:
    """The engines that answer now."""
    answers = await ask_each(engines, lambda one: one.status(), seconds=_BEGIN_SECONDS)
    return [answer for answer in answers.values() if isinstance(answer, EngineView)]


async def made_up(engines: tuple[EngineClient, ...]) -> MadeUp:
    """Evidence for a drill on these engines.

    Raises:
        DrillError: one does not answer.
    """
    views = await seen(engines)
    texts = await ask_each(engines, lambda one: one.metrics(), seconds=_BEGIN_SECONDS)
    silent = [url for url, text in texts.items() if not isinstance(text, str)]
    if silent or len(views) < len(engines):
        raise DrillError(f"no answer from {', '.join(silent) or 'an engine'}")
    direct = Direct()
    now = datetime.now(UTC)
    # What is read now counts for the edge that the guard asks for: the minute's beginning.
    edge = datetime.fromtimestamp(minute_of(now) * 60, UTC)
    direct.keep(edge, {url: text for url, text in texts.items() if isinstance(text, str)})
    real = Evidence(direct, (direct,), engines=len(engines))
    return MadeUp(tuple(view.engine_id for view in views), real, now)
