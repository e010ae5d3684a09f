"""All that was seen of a rollout at one moment, and what follows from it. Pure.

What could not be read is unknown, and is never read as sound.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from gates.asking import EngineError
from gates.engine_views import EngineView
from gates.history import Record
from gates.stages import OFF
from gates.standing import Standing

#: The guard polls every 15 s, and a poll may take as long again; its runbook alerts on as much.
SILENT_AFTER: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What the guard of a configuration left in its state folder.

    `beat` is None where no guard of this configuration ran on this machine: then nothing is known.
    """

    beat: datetime | None = None
    told: Mapping[str, str] = field(default_factory=dict)  #: open conditions, by key

    def silent(self, now: datetime) -> bool:
        """Whether one ran here, and does not any more."""
        return self.beat is not None and now - self.beat > SILENT_AFTER


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that was seen of a rollout. None and an empty mapping stand for *not known*."""

    now: datetime
    standings: Mapping[str, Standing] | None
    generation: int | None
    engines: Mapping[str, EngineView | EngineError]
    last: Mapping[str, Record] | None  #: the last change of each flag, where there was one
    soak_left: Mapping[str, int | None] = field(default_factory=dict)  #: minutes
    approval: frozenset[str] = frozenset()  #: stages that a person must approve
    guard: Guard = field(default_factory=Guard)
    trouble: str = ""  #: why the store cannot be read
    damage: str = ""  #: why the history cannot be believed
    config: str = ""  #: for commands; empty for the one that is found by itself

    def standing(self, flag: str) -> Standing | None:
        """What the store says of it."""
        return None if self.standings is None else self.standings.get(flag)

    def views(self) -> Iterator[EngineView]:
        """The engines that answered."""
        return (engine for engine in self.engines.values() if isinstance(engine, EngineView))

    def share(self, flag: str) -> float:
        """Percent: the largest that any engine is known to serve, or the store asks for."""
        standing = self.standing(flag)
        asked = standing.percentage if standing and standing.enabled else 0.0
        return max([asked, *(view.flags[flag].effective for view in self.views())])

    def unconfirmed(self, flag: str) -> dict[str, str]:
        """Engines that do not serve what the store says, or do not answer, each with the reason."""
        reasons = {url: self._denial(engine, flag) for url, engine in self.engines.items()}
        return {url: why for url, why in reasons.items() if why}

    def _denial(self, engine: EngineView | EngineError, flag: str) -> str:
        standing = self.standing(flag)
        if isinstance(engine, EngineError):
            return f"no answer: {engine.reason}"
        if standing is None:
            return "the store is unknown"
        return next(self._doubts(engine, flag, standing), "")

    def _doubts(self, engine: EngineView, flag: str, standing: Standing) -> Iterator[str]:
        served = engine.flags[flag]
        if standing.stage == OFF:
            if not served.off:
                by_hand = " by hand" if served.unmanaged else ""
                yield f"serves {served.effective:g} %{by_hand}"
            return
        if served.braked:
            yield f"braked at 0 %: {served.cause or 'no cause'}"
        if served.unmanaged:
            yield f"{served.effective:g} % by hand"
        if self.generation is not None and engine.generation < self.generation:
            yield f"at generation {engine.generation} of {self.generation}"
        # A share that is too small serves nobody ill, and is no confirmation either.
        if served.effective < standing.percentage:
            yield f"serves {served.effective:g} %"
