"""Alerts by webhook: to an Alertmanager, to Slack, or to both.

Where they go stands in the environment, since such an address is a secret: it is never logged.
The log tells of every alert in any case, so without an address that is where it goes.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Self

from engine.core.qos import Slo, SloStatus
from engine.core.remediation import Order
from engine.server.actuators import ActuatorError, Change

if TYPE_CHECKING:
    import httpx

ALERTMANAGER: Final = "PHASE5_ALERTMANAGER_URL"
SLACK: Final = "PHASE5_SLACK_URL"

#: An alert that takes longer has no use, and the next one waits behind it.
TIMEOUT_SECONDS: Final = 5.0
ATTEMPTS: Final = 3
#: Before the second attempt; doubled before the third.
BACKOFF_SECONDS: Final = 0.5
#: Until when an Alertmanager believes a violation that is not heard of again: an engine that
#: dies can end none of its own.
EXPIRES: Final = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Told:
    """One violation, as receivers see it; `ended` is None while it lasts."""

    status: SloStatus
    slo: Slo
    engine: str
    started: datetime
    ended: datetime | None = None

    @property
    def summary(self) -> str:
        """In a sentence."""
        status = self.status
        value = "unknown" if status.value is None else f"{status.value:.6g}"
        over = "" if self.ended is None else " no longer"
        return (
            f"SLO {status.name} is{over} violated: {status.metric} is {value}, "
            f"limit {status.limit:.6g}, n={status.n}"
        )


def alertmanager(told: Sequence[Told]) -> list[dict[str, Any]]:
    """The body of `POST /api/v2/alerts`."""
    return [
        {
            "labels": {
                "alertname": "Phase5SloViolated",
                "slo": each.status.name,
                "metric": each.status.metric,
                "severity": each.slo.severity,
                "engine": each.engine,
            },
            "annotations": {"summary": each.summary},
            "startsAt": each.started.isoformat(),
            "endsAt": (each.ended or each.started + EXPIRES).isoformat(),
        }
        for each in told
    ]


def slack(told: Sequence[Told]) -> dict[str, Any]:
    """The body for an incoming webhook of Slack."""
    lines = [f"{each.summary} ({each.slo.severity}, engine {each.engine})" for each in told]
    return {"text": "\n".join(lines)}


Body = Callable[[Sequence[Told]], Any]


class Alerts:
    """The lever of alerts.

    Args:
        slo: finds an SLO by its name.
        engine: the engine's id.
        addresses: by format; see `from_environment`.
        wall: seconds since 1970.
    """

    def __init__(
        self,
        slo: Callable[[str], Slo],
        engine: str,
        addresses: Mapping[str, str],
        wall: Callable[[], float],
        transport: "httpx.AsyncBaseTransport | None" = None,
    ) -> None:
        self._slo = slo
        self._engine = engine
        self._wall = wall
        self._transport = transport
        self._addresses = dict(addresses)
        self._started: dict[str, datetime] = {}

    @classmethod
    def from_environment(
        cls, slo: Callable[[str], Slo], engine: str, wall: Callable[[], float]
    ) -> Self:
        """To the addresses that the environment names."""
        found = {name: os.environ[name] for name in _BODIES if os.environ.get(name)}
        return cls(slo, engine, found, wall)

    async def apply(self, order: Order) -> Change:
        """Tell of violations.

        Raises:
            ActuatorError: a receiver did not take it.
        """
        now = self._now()
        for status in order.statuses:
            self._started.setdefault(status.name, now)
        return await self._send([self._told(status, None) for status in order.statuses])

    async def resolve(self, order: Order) -> Change:
        """Tell that violations are over.

        Raises:
            ActuatorError: a receiver did not take it.
        """
        now = self._now()
        told = [self._told(status, now) for status in order.statuses]
        for status in order.statuses:
            self._started.pop(status.name, None)
        return await self._send(told)

    async def undo(self) -> Change:
        """What is said is said."""
        return Change("", "")

    async def reset(self) -> Change:
        """As `undo`."""
        return Change("", "")

    def _told(self, status: SloStatus, ended: datetime | None) -> Told:
        started = self._started.get(status.name) or self._now()
        return Told(status, self._slo(status.name), self._engine, started, ended)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), UTC)

    async def _send(self, told: Sequence[Told]) -> Change:
        failed = []
        for name, address in self._addresses.items():
            why = await self._post(address, _BODIES[name](told))
            if why:
                failed.append(f"the receiver of {name} {why}")
        if failed:
            raise ActuatorError("; ".join(failed))
        return Change("", f"told the log{''.join(f', {name}' for name in self._addresses)}")

    def _make_client(self) -> "tuple[ModuleType, httpx.AsyncClient]":
        import httpx

        return httpx, httpx.AsyncClient(timeout=TIMEOUT_SECONDS, transport=self._transport)

    async def _post(self, address: str, body: Any) -> str | None:
        """Why it failed for good, without the address; None when it was taken."""
        # Importing it, and reading the certificates of the machine, takes half a second.
        httpx, made = await asyncio.to_thread(self._make_client)
        why: str | None = None
        async with made as client:
            for attempt in range(ATTEMPTS):
                if attempt:
                    await asyncio.sleep(BACKOFF_SECONDS * 2 ** (attempt - 1))
                try:
                    answer = await client.post(address, json=body)
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    why = f"cannot be reached: {type(error).__name__}"
                    continue
                if answer.is_success:
                    return None
                why = f"answered {answer.status_code}"
                if not _worth_another(answer.status_code):
                    break
        return why


def _worth_another(status: int) -> bool:
    return status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR


_BODIES: Final[Mapping[str, Body]] = {ALERTMANAGER: alertmanager, SLACK: slack}
