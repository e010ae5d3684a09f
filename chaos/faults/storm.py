"""A storm of remedies: many triggers at once, again and again, for one actuator and one brake."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from chaos.errors import FaultError
from chaos.faults.at_once import ask_at_once
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
    """Bursts of several clients that violate all policies at once, with calm in between.

    A remedy is in force after the first burst and eased in the calm; the next burst asks for
    it again, and so it goes to and fro until the engine calls that a loop. Then so many clients
    as `rollbacks` ask for the same rollback, all of them before any has an answer.
    """

    def __init__(
        self,
        ground: Ground,
        *,
        clients: int,
        rate: float,
        tokens: int,
        policies: int,
        rollbacks: int,
        flag: str,
    ) -> None:
        self._ground = ground
        self._flows = [
            Flow(name=f"burst-{number}", rate=rate, tokens=tokens) for number in range(clients)
        ]
        self._policies = policies
        self._running: list[Running] = []
        self._seed = ground.seed + 100
        self._rollbacks, self._flag = rollbacks, flag
        self._rolled: Mapping[str, Any] = {}
        self.requested: Mapping[str, Any] = {
            "clients": clients,
            "rate": rate,
            "tokens": tokens,
            "policies": policies,
            "rollbacks": rollbacks,
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
        self._roll_back()
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
            "rollback": self._rolled,
        }
        why = []
        if max(at_once, default=0) < self._policies:
            why.append("the policies were never violated at once")
        if self._rolled.get("open_at_once") != self._rollbacks:
            why.append(f"rollbacks were not asked for at once: {self._rolled}")
        return Effect(values=values, proven=not why, why="; ".join(why))

    def _roll_back(self) -> None:
        body = {"flags": [self._flag], "cause": "drill", "reason": "a storm of rollbacks"}
        url = f"{self._ground.engine.url}/admin/rollback"
        answers = ask_at_once(url, body, self._rollbacks)
        brakes = [answer.body.get("brakes", {}).get(self._flag) for answer in answers]
        self._first(
            lambda look: not look.error and look.status["flags"][self._flag]["effective"] == 0,
            "the flag is at 0 %",
        )
        self._rolled = {
            "flag": self._flag,
            "open_at_once": len(answers),
            "answered": sum(answer.status == HTTPStatus.OK for answer in answers),
            "brakes": sorted(set(map(str, brakes))),
        }

    def _first(self, wanted: Any, what: str) -> Look:
        return self._ground.observer.first(wanted, _STEP_SECONDS, what)

    def _calm(self, look: Look) -> bool:
        cap = look.status.get("qos", {}).get("limit_cap")
        return not look.error and cap is None and not _violations(look)

    def _begin(self) -> None:
        engine = self._ground.engine
        for flow in self._flows:
            self._seed += 1
            running = self._ground.stage.traffic.start(
                flow,
                url=engine.url,
                model=engine.model,
                seconds=_LONGEST_SECONDS,
                seed=self._seed,
            )
            self._running.append(running)

    def _end(self) -> None:
        running, self._running = self._running, []
        brought = [each.stop() for each in running]
        if not all(each.samples for each in brought):
            raise FaultError("a client of a burst sent nothing")


def _violations(look: Look) -> tuple[str, ...]:
    return tuple(look.status.get("qos", {}).get("violations", ()))
