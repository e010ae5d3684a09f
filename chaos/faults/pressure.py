"""A fault of memory: streams with long contexts, more than the runtime's budget holds."""

from collections.abc import Mapping
from typing import Any, Final

from chaos.errors import FaultError
from chaos.faults.base import wait
from chaos.record import Effect, Record
from chaos.stage import Ground
from gates.evidence import Flow, Running

#: Until the first of them shows in the runtime's memory.
_SHOWS_SECONDS: Final = 30.0

#: No pressure lasts longer: it is ended before.
_LONGEST_SECONDS: Final = 600.0


#: Clients that give up sooner on a busy machine would look like ones that were cut.
_PATIENCE_SECONDS: Final = 120.0


class Memory:
    """Requests of many words at a rate: each holds much until it ends.

    Args:
        ground: where.
        rate, words, tokens: of these requests.
        until: the measure (`evict`, `shrink`, `shed`, `renew`) that it is held up for.
    """

    def __init__(
        self, ground: Ground, rate: float, words: int, tokens: int, until: str = "shrink"
    ) -> None:
        self._ground = ground
        self._flow = Flow(
            name="pressure", rate=rate, words=words, tokens=tokens, timeout=_PATIENCE_SECONDS
        )
        self._until = until
        self._running: Running | None = None
        self.requested: Mapping[str, Any] = {"rate": rate, "words": words, "tokens": tokens}

    def inject(self) -> Mapping[str, Any]:
        """Begin, and see the budget and the pressure on it."""
        engine = self._ground.engine
        self._running = self._ground.stage.traffic.start(
            self._flow,
            url=engine.url,
            model=engine.model,
            seconds=_LONGEST_SECONDS,
            seed=self._ground.seed + 1,
        )
        look = self._ground.observer.first(
            lambda look: _memory(look.status)["bytes"] > _memory(look.status)["budget"],
            _SHOWS_SECONDS,
            "the runtime holds more than its budget",
        )
        return dict(_memory(look.status))

    def hold(self, seconds: float) -> None:
        """At least so long, and until the measure was taken."""
        wait(seconds)
        self._ground.observer.first(
            lambda look: look.total("phase5_memory_actions_total", action=self._until) > 0,
            _SHOWS_SECONDS,
            f"measure {self._until!r} against memory pressure",
        )

    def heal(self) -> Mapping[str, Any]:
        """These clients leave.

        Raises:
            FaultError: no request was sent.
        """
        running, self._running = self._running, None
        if running is None:
            return {}
        brought = running.stop()
        ends: dict[str, int] = {}
        for sample in brought.samples:
            ends[sample.outcome.value] = ends.get(sample.outcome.value, 0) + 1
        if not ends:
            raise FaultError(f"nobody pressed: {brought.trouble or 'no request was sent'}")
        self._ends = ends
        return {"ends": ends}

    def effect(self, record: Record) -> Effect:
        """The runtime held more than its budget, and the engine took measures."""
        held = [_memory(look.status) for look in record.looks if not look.error]
        most = max(held, key=lambda memory: int(memory["bytes"]), default=None)
        actions = {
            name: record.growth("phase5_memory_actions_total", action=name)
            for name in ("evict", "shrink", "shed", "renew")
        }
        over = most is not None and int(most["bytes"]) > int(most["budget"])
        values = {"most": most, "actions": actions, "ends": getattr(self, "_ends", {})}
        return Effect(
            values=values,
            proven=over and any(actions.values()),
            why="the runtime never held more than its budget",
        )


def _memory(status: Mapping[str, Any]) -> Mapping[str, Any]:
    memory: Mapping[str, Any] = status.get("memory", {"bytes": 0, "budget": 1})
    return memory
