"""A drill on the engines that serve: a real rollback, with its cause named, that loses nobody.

The flags stand at 0 % afterwards and begin again at canary, without a tombstone. No evidence is
made up: what is rehearsed is from the order on.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from gates.engine_views import EngineView
from gates.engines import EngineClient, ask_each
from gates.guarding.acting import rollback
from gates.guarding.loop import Guard
from gates.guarding.rehearsal import PATIENCE, DrillError, seen
from gates.stages import OFF
from gates.standing import Cause

#: Ends of a request that nobody wants.
_BAD: Final = frozenset({"failed", "cut"})
_REQUESTS: Final = "phase5_requests_total"

#: Seconds for one round of questions.
_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDrill:
    """What a drill on live engines showed."""

    flags: Mapping[str, str]  #: the stage that each stood at
    streams: int  #: that were live when it began
    apply: float  #: seconds until every engine had confirmed 0 %
    converge: float  #: seconds until the store knew, too, and every engine had its state
    engines: Mapping[str, float]
    bad: int  #: requests that failed or were cut meanwhile, by the engines' own counts

    @property
    def passed(self) -> bool:
        """Whether nobody noticed."""
        return self.bad == 0

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "verdict": "pass" if self.passed else "fail"}


async def rehearse_live(
    guard: Guard, engines: tuple[EngineClient, ...], confirm: Callable[[str], bool]
) -> LiveDrill | None:
    """Roll back every flag that serves somebody; None when nobody agreed to it.

    Raises:
        DrillError: no flag serves, an engine does not answer, or it takes too long.
    """
    await guard.reading.refresh()
    store = guard.reading.view
    if store is None:
        raise DrillError("; ".join(guard.reading.trouble))
    flags = {f: s for f, s in store.flags.items() if s.stage != OFF}
    if not flags:
        raise DrillError(f"{store.where}: every flag is off; there is nothing to roll back")
    stages = {flag: standing.stage for flag, standing in flags.items()}
    told = ", ".join(f"{flag} at {stage}" for flag, stage in stages.items())
    if not confirm(f"roll back {told} on {len(engines)} engines? They begin again at canary"):
        return None
    views, before = await seen(engines), await _bad(engines)
    begun = monotonic()
    epochs = {flag: standing.epoch for flag, standing in flags.items()}
    order = rollback(epochs, Cause.DRILL, "a drill", guard.clock())
    await _until_closed(guard, engines, order, views)
    marks = guard.deeds.marks
    return LiveDrill(
        flags=stages,
        streams=sum(view.streams_in_flight for view in views),
        apply=max(marks[f"braked:{one.url}"] for one in engines) - begun,
        converge=marks["closed"] - begun,
        engines={one.url: marks[f"braked:{one.url}"] - begun for one in engines},
        bad=await _bad(engines) - before,
    )


async def _until_closed(
    guard: Guard, engines: tuple[EngineClient, ...], order: Any, views: list[EngineView]
) -> None:
    guard.deeds.marks.clear()
    guard.begin(order, views)
    deadline = monotonic() + PATIENCE
    while "closed" not in guard.deeds.marks:
        await guard.poll(engines)
        if monotonic() > deadline:
            raise DrillError(f"not everywhere after {PATIENCE:g} s; the guard goes on with it")


async def _bad(engines: tuple[EngineClient, ...]) -> int:
    texts = await ask_each(engines, lambda one: one.metrics(), seconds=_SECONDS)
    total = 0
    for url, text in texts.items():
        if not isinstance(text, str):
            raise DrillError(f"{url}: {text.reason}")
        for family in text_string_to_metric_families(text):
            total += sum(
                int(s.value)
                for s in family.samples
                if s.name == _REQUESTS and s.labels.get("outcome") in _BAD
            )
    return total


def live_lines(found: LiveDrill) -> list[str]:
    """For people."""
    return [
        f"{', '.join(f'{flag} (was at {stage})' for flag, stage in found.flags.items())}: at 0 %",
        f"streams   {found.streams} live then",
        f"apply     {found.apply:.2f} s: every engine at 0 %",
        f"converge  {found.converge:.2f} s: store written",
        f"failed or cut meanwhile: {found.bad}",
        f"drill: {'pass' if found.passed else 'fail'}",
    ]
