"""A storm of remedies: many policies violated at once, again and again, for one actuator."""

from collections.abc import Mapping
from typing import Any, Final

from chaos.errors import FaultError
from chaos.faults.base import wait
from chaos.observing import Look
from chaos.record import Effect, Record
from chaos.stage import Ground
from gates.evidence import Flow, Running

#: Within which each step of the storm must have come about: some looks at some seconds each.
_STEP_SECONDS: Final = 30.0

#: A burst is ended long before.
_LONGEST_SECONDS: Final = 120.0

_EXECUTED: Final = "remediations_executed"
_REFUSED: Final = "phase5_remediations_refused_total"


class Storm:
    """Bursts of requests that violate all policies of the experiment, with calm in between.

    A remedy is in force after the first burst and eased in the calm; the next burst asks for
    it again, and so it goes to and fro until the engine calls that a loop.
    """

    def __init__(self, ground: Ground, rate: float, tokens: int, policies: int) -> None:
        self._ground = ground
        self._flow = Flow(name="burst", rate=rate, tokens=tokens)
        self._policies = policies
        self._running: Running | None = None
        self._seed = ground.seed + 100
        self.requested: Mapping[str, Any] = {
            "rate": rate,
            "tokens": tokens,
            "policies": policies,
        }

    def inject(self) -> Mapping[str, Any]:
        """The first burst: all policies are violated at the same look."""
        before = self._ground.observer.first(lambda look: not look.error, _STEP_SECONDS, "a look")
        self._before = before.total(_EXECUTED)
        self._limit = before.status.get("limit")
        self._begin()
        look = self._first(
            lambda look: len(_violations(look)) == self._policies, "all policies are violated"
        )
        return {"violations": list(_violations(look))}

    def hold(self, seconds: float) -> None:
        """To and fro, until the engine names the loop; then calm again."""
        self._first(lambda look: look.total(_EXECUTED) > self._before, "a remedy")
        while True:
            self._end()
            self._first(self._calm, "the remedy is eased")
            self._begin()
            refused = self._first(
                lambda look: (
                    look.total(_REFUSED, reason="loop") > 0
                    or (len(_violations(look)) == self._policies and not self._calm(look))
                ),
                "the remedy again, or the loop named",
            )
            if refused.total(_REFUSED, reason="loop"):
                break
        wait(seconds)

    def heal(self) -> Mapping[str, Any]:
        """No more bursts."""
        self._end()
        return {}

    def effect(self, record: Record) -> Effect:
        """All policies were violated at once, more than once."""
        at_once = [len(_violations(look)) for look in record.looks if not look.error]
        refused = {
            reason: record.growth(_REFUSED, reason=reason)
            for reason in ("owned", "cooldown", "rate_limit", "loop", "breaker")
        }
        values = {
            "violated_at_once": max(at_once, default=0),
            "executed": record.growth(_EXECUTED),
            "refused": refused,
        }
        proven = max(at_once, default=0) >= self._policies
        return Effect(values=values, proven=proven, why="the policies were never violated at once")

    def _first(self, wanted: Any, what: str) -> Look:
        return self._ground.observer.first(wanted, _STEP_SECONDS, what)

    def _calm(self, look: Look) -> bool:
        cap = look.status.get("qos", {}).get("limit_cap")
        return not look.error and cap is None and not _violations(look)

    def _begin(self) -> None:
        engine = self._ground.engine
        self._seed += 1
        self._running = self._ground.stage.traffic.start(
            self._flow,
            url=engine.url,
            model=engine.model,
            seconds=_LONGEST_SECONDS,
            seed=self._seed,
        )

    def _end(self) -> None:
        running, self._running = self._running, None
        if running is not None and not running.stop().samples:
            raise FaultError("a burst sent nothing")


def _violations(look: Look) -> tuple[str, ...]:
    return tuple(look.status.get("qos", {}).get("violations", ()))
