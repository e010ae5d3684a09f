"""Carries out what the remediator orders, and reports it."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from engine.core.breaker import BreakerState
from engine.core.remediation import Order, Remediator, Trials
from engine.core.remedies import ACTUATORS, Actuator, Policy, PolicyStore
from engine.core.safeguards import Limits, Refusal
from engine.runtime.interface import RuntimeStartError
from engine.server.actuators import ActuatorError, Change, Lever, LimitCap, Replicas, Restart
from engine.server.alerts import Alerts

log = logging.getLogger("engine.server.remediation")

#: A lever that takes longer has failed: loading a large model takes minutes, and a start has
#: ten of them.
LEVER_SECONDS: Final = 900.0

#: `executed`, `unchanged` (at a bound), `failed`: of the deed. `helped`, `taken_back`, and
#: `failed` again: of what came of it. `rehearsed`: a dry run.
OUTCOMES: Final = ("executed", "unchanged", "failed", "helped", "taken_back", "rehearsed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Levers:
    """One for each actuator."""

    limit: LimitCap
    replicas: Replicas
    runtime: Restart
    webhook: Alerts

    def each(self) -> Mapping[Actuator, Lever]:
        """By the actuator's name."""
        return {
            "limit": self.limit,
            "replicas": self.replicas,
            "runtime": self.runtime,
            "webhook": self.webhook,
        }


class RemediationExecutor:
    """The shell around one `Remediator`.

    Args:
        on_limit: called when the cap of the limit moved.
    """

    def __init__(
        self,
        policies: PolicyStore,
        limits: Limits,
        trials: Trials,
        levers: Levers,
        *,
        clock: Callable[[], float],
        on_limit: Callable[[], None],
        dry_run: bool,
    ) -> None:
        self._levers = levers
        self._each = levers.each()
        self._clock = clock
        self._on_limit = on_limit
        self._turns: dict[Actuator, asyncio.Lock] = {name: asyncio.Lock() for name in self._each}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._refusals: Counter[Refusal] = Counter()
        self.executed = 0
        self.remediator = Remediator(
            policies,
            limits,
            trials,
            refused=self._refuse,
            judged=self._judge,
            dry_run=dry_run,
        )

    async def carry_out(self, order: Order) -> None:
        """Do what an order says; one at a time for each actuator."""
        async with self._turns[order.actuator]:
            if order.kind == "execute":
                await self._execute(order)
            elif order.kind == "ease":
                change = await self._levers.limit.ease()
                over = self._levers.limit.cap is None
                self.remediator.eased(order, self._clock(), over=over)
                self._tell("eased", order, change)
            elif order.kind == "take_back":
                await self._try("taken back", order, self._each[order.actuator].undo)
            elif order.kind == "resolve":
                await self._try("resolved", order, lambda: self._levers.webhook.resolve(order))
            else:
                self._count(order.policy, "rehearsed")
                log.warning("dry run: would now %s", _words(order))
        if order.actuator == "limit":
            self._on_limit()

    def reset(self) -> list[Coroutine[None, None, None]]:
        """What brings every actuator to where it is configured, behind what is under way.

        To be started at once, and before any later order.
        """
        self.remediator.reset()
        return [self._reset(name) for name in self._each]

    async def _reset(self, actuator: Actuator) -> None:
        async with self._turns[actuator]:
            try:
                change = await self._each[actuator].reset()
            except (ActuatorError, RuntimeStartError) as error:
                log.error("cannot go back to what is configured: %s", error)  # noqa: TRY400  # one line says it all
                return
        if change.changed:
            log.info("back to what is configured: %s -> %s", change.before, change.after)
        if actuator == "limit":
            self._on_limit()

    async def _execute(self, order: Order) -> None:
        lever = self._each[order.actuator]
        change = await self._try("executed", order, lambda: lever.apply(order))
        if change is None:
            self.remediator.failed(order, self._clock())
            return
        self._count(order.policy, "executed" if change.changed else "unchanged")
        self.executed += change.changed
        self.remediator.done(order, self._clock(), changed=change.changed)

    async def _try(
        self, deed: str, order: Order, call: Callable[[], Awaitable[Change]]
    ) -> Change | None:
        """The change; None when it failed, which is logged."""
        try:
            async with asyncio.timeout(LEVER_SECONDS):
                change = await call()
        except (ActuatorError, RuntimeStartError, TimeoutError) as error:
            log.error("failed: %s: %s", _words(order), str(error) or type(error).__name__)  # noqa: TRY400  # one line says it all
            return None
        self._tell(deed, order, change)
        return change

    def _tell(self, deed: str, order: Order, change: Change) -> None:
        log.warning("%s: %s: %s -> %s", deed, _words(order), change.before, change.after)

    def _count(self, policy: Policy, outcome: str) -> None:
        self._counts[policy.remedy.action, outcome] += 1

    def _refuse(self, refusal: Refusal) -> None:
        self._refusals[refusal] += 1
        if refusal is Refusal.LOOP:
            log.error("remedies undo each other: a breaker opens")

    def _judge(self, policy: Policy, outcome: str) -> None:
        self._count(policy, outcome)
        log.info("remedy %s for SLO %s: %s", policy.remedy.action, policy.slo.name, outcome)

    # What is shown.

    def breakers(self) -> dict[str, str]:
        """By actuator: `closed`, `open` or `half_open`."""
        now = self._clock()
        guards = self.remediator.safeguards
        return {name: guard.breaker.state(now).value for name, guard in guards.items()}

    def collect(self) -> Iterator[Metric]:
        """For Prometheus; every label is always there."""
        now = self._clock()
        done = CounterMetricFamily(
            "phase5_remediations", "Remedies, and what came of them", labels=("action", "outcome")
        )
        for action in ACTUATORS:
            for outcome in OUTCOMES:
                done.add_metric((action, outcome), self._counts[action, outcome])
        refused = CounterMetricFamily(
            "phase5_remediations_refused", "Remedies held back, by looks", labels=("reason",)
        )
        for reason in Refusal:
            refused.add_metric((reason.value,), self._refusals[reason])
        breaker = GaugeMetricFamily(
            "phase5_remediation_breaker", "State of a breaker", labels=("actuator", "state")
        )
        cooling = GaugeMetricFamily(
            "phase5_remediation_cooldown_seconds", "Rest of a cooldown", labels=("actuator",)
        )
        for name, guard in self.remediator.safeguards.items():
            cooling.add_metric((name,), guard.cooling(now))
            for state in BreakerState:
                breaker.add_metric((name, state.value), guard.breaker.state(now) is state)
        yield from (done, refused, breaker, cooling)


def _words(order: Order) -> str:
    status = order.statuses[0]
    value = "unknown" if status.value is None else f"{status.value:.6g}"
    more = f" and {len(order.statuses) - 1} more" if len(order.statuses) > 1 else ""
    return (
        f"{order.policy.remedy.action} for SLO {status.name}{more} "
        f"({status.metric} is {value}, limit {status.limit:.6g}, n={status.n})"
    )
