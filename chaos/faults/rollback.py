"""A rollback in the middle of a crash: both at once, as on a bad day."""

from collections.abc import Mapping
from typing import Any, Final

import httpx

from chaos.errors import FaultError
from chaos.faults.processes import Kill
from chaos.record import HEALED, Effect, Record
from chaos.stage import Ground

#: A rollback is answered in milliseconds, once its brakes are on the disk.
_ANSWER_SECONDS: Final = 10.0


class RollbackAmidKill(Kill):
    """The runtime is killed, and before it is back every flag is rolled back."""

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self._url = ground.engine.url
        self.requested = {**self.requested, "rollback": "every flag"}

    def inject(self) -> Mapping[str, Any]:
        """Kill, then roll back; both are read back.

        Raises:
            FaultError: a flag is not braked after the rollback.
        """
        killed = super().inject()
        try:
            body = {"cause": "drill", "reason": "rollback during chaos"}
            answer = httpx.post(
                f"{self._url}/admin/rollback", json=body, timeout=_ANSWER_SECONDS, trust_env=False
            )
        except httpx.HTTPError as error:
            raise FaultError(f"POST /admin/rollback: {error!r}") from None
        if not answer.is_success:
            raise FaultError(f"POST /admin/rollback: {answer.status_code}: {answer.text[:200]}")
        flags = answer.json()["flags"]
        free = sorted(name for name, flag in flags.items() if not flag["braked"])
        if free:
            raise FaultError(f"not braked after a rollback: {', '.join(free)}")
        return {**killed, "brakes": answer.json()["brakes"]}

    def hold(self, seconds: float) -> None:
        """Until the next process serves."""
        super().hold(seconds)
        self._await_replacement()

    def effect(self, record: Record) -> Effect:
        """As for any kill; and no flag serves a stream any more."""
        found = super().effect(record)
        last = record.last()
        flags: Mapping[str, Any] = last.status.get("flags", {}) if last else {}
        served = {name: flag["effective"] for name, flag in flags.items()}
        after = [s.flags for flow in record.samples for s in record.after(flow) if s.flags]
        values = {
            **found.values,
            "effective_percentages": served,
            "streams_after": len(after),
            "of_them_treated": sum(each != "off" for each in after),
            "healed_after_seconds": record.at(HEALED) - record.begun,
        }
        proven = found.proven and bool(served) and not any(served.values())
        return Effect(values=values, proven=proven, why=found.why if served else "no flags told")
