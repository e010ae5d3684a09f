"""Telling engines to brake: at once, again until they confirm, and timed from our start."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from engine.core.flags import FLAGS
from gates.engine_views import BrakeAnswer
from gates.engines import EngineClient, EngineError, ask_each, clients
from gates.lifetime import process_seconds

#: Seconds after which an engine that has not confirmed is reported; the guard goes on from there.
PATIENCE: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """An engine that said that it is at 0 %.

    Attributes:
        seconds: from the start of this process until it said so.
        brakes: the id of each flag's brake.
    """

    seconds: float
    brakes: Mapping[str, str]


@dataclass(slots=True, kw_only=True)
class Braking:
    """Owns what engines said to a rollback while it is under way."""

    flags: Sequence[str]  #: none: every flag
    cause: str
    reason: str
    confirmed: dict[str, Confirmed] = field(default_factory=dict)  #: by URL, as they come

    async def tell(
        self, urls: Iterable[str], *, ca: Path | None = None, seconds: float
    ) -> dict[str, Confirmed | EngineError]:
        """Tell engines to brake; by URL, the confirmation, or why there is none."""
        async with clients(urls, ca=ca) as engines:
            return await ask_each(engines, self._brake, seconds=seconds)

    async def _brake(self, engine: EngineClient) -> Confirmed:
        answer = await engine.rollback(self.flags or None, cause=self.cause, reason=self.reason)
        _require_off(engine.url, answer, self.flags or FLAGS)
        self.confirmed[engine.url] = Confirmed(seconds=process_seconds(), brakes=answer.brakes)
        return self.confirmed[engine.url]


def _require_off(url: str, answer: BrakeAnswer, flags: Iterable[str]) -> None:
    """An engine that says that it braked, and does not serve 0 %, has not confirmed."""
    for flag in flags:
        view = answer.flags[flag]
        if not (view.off and view.braked):
            raise EngineError(url, f"still serves {flag} at {view.effective:g} %")
