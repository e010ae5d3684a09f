"""Telling engines to brake: at once, again until they confirm, and timed from our start.

A thread for each engine, and nothing that takes long to load: see `gates.plain_http`.
"""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from engine.core.flags import FLAGS
from gates import engine_views
from gates.asking import LONGEST_REASON, EngineError
from gates.engine_views import BrakeAnswer
from gates.lifetime import process_seconds
from gates.plain_http import ask, persistently

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
    ca: Path | None = None
    outcomes: dict[str, Confirmed | EngineError] = field(default_factory=dict)
    _threads: list[threading.Thread] = field(default_factory=list)

    def tell(self, urls: Iterable[str], seconds: float) -> None:
        """Begin to tell engines; each is told until it confirms, for so long at most."""
        deadline = time.monotonic() + seconds
        for url in urls:
            waiting = EngineError(url, f"no answer within {seconds:g} s")
            self.outcomes[url] = waiting
            thread = threading.Thread(target=self._tell, args=(url, deadline), daemon=True)
            self._threads.append(thread)
            thread.start()

    def wait(self, seconds: float) -> None:
        """Until every engine has confirmed or was given up, or the time is over."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))

    @property
    def confirmed(self) -> dict[str, Confirmed]:
        """Those that confirmed so far, by URL."""
        found = dict(self.outcomes)
        return {url: answer for url, answer in found.items() if isinstance(answer, Confirmed)}

    def _tell(self, url: str, deadline: float) -> None:
        try:
            self.outcomes[url] = persistently(lambda s: self._brake(url, s), deadline)
        except EngineError as error:
            self.outcomes[url] = error

    def _brake(self, url: str, seconds: float) -> Confirmed:
        body = {
            "flags": list(self.flags) or None,
            "cause": self.cause,
            "reason": self.reason[:LONGEST_REASON],
        }
        path = "/admin/rollback"
        answer = ask(url, path, engine_views.brake_answer, seconds, body=body, ca=self.ca)
        _require_off(url, answer, self.flags or FLAGS)
        return Confirmed(seconds=process_seconds(), brakes=answer.brakes)


def _require_off(url: str, answer: BrakeAnswer, flags: Iterable[str]) -> None:
    """An engine that says that it braked, and does not serve 0 %, has not confirmed."""
    for flag in flags:
        seen = answer.flags[flag]
        if not (seen.off and seen.braked):
            raise EngineError(url, f"still serves {flag} at {seen.effective:g} %")
