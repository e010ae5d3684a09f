"""Decides what is done about violated SLOs, and whether it helped.

One remedy at a time for each actuator:

    violated -> RUNNING (the shell does it) -> SETTLING -> helped: HELD
                    |                             '-> did not: taken back, a failure
                    '-> could not: a failure

Whether it helped is asked `settle_seconds` later, and of streams that began after it: the SLO
is kept by them, or its value got better by `WORTH_KEEPING`. No streams, no answer: it stays
in effect until there is one. What is held is given up when the violation ends: a throttle step
by step, one each cooldown; replicas stay, until another policy or the next block moves them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, Protocol

from engine.core.qos import SloStatus
from engine.core.remedies import Actuator, Policy, PolicyStore
from engine.core.safeguards import Limits, Refusal, Safeguards

#: Less than a twentieth is what two windows of an undisturbed engine differ by.
WORTH_KEEPING: Final = 0.05

ALL: Final[tuple[Actuator, ...]] = ("limit", "replicas", "runtime", "webhook")

#: What can be taken back. A restart cannot, and a message need not be.
REVERSIBLE: Final[frozenset[Actuator]] = frozenset({"limit", "replicas"})


class Stage(StrEnum):
    """Where a remedy stands."""

    RUNNING = "running"
    SETTLING = "settling"
    HELD = "held"


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """What the shell is to do now.

    `execute` and `rehearse` (a dry run: only say so) the policy's remedy; `take_back`: undo the
    last one; `ease`: one step back towards what is configured; `resolve`: tell that what an
    alert told of is over. `statuses` is why: of an alert, all that it tells of.
    """

    kind: Literal["execute", "rehearse", "take_back", "ease", "resolve"]
    policy: Policy
    statuses: tuple[SloStatus, ...]

    @property
    def actuator(self) -> Actuator:
        """What it moves."""
        return self.policy.remedy.actuator


class Trials(Protocol):
    """What a remedy is judged by; `QosMonitor` is the real one."""

    def begin_trial(self, name: str, now: float) -> None:
        """Measure an SLO on the streams that begin from now on."""

    def trial(self, name: str) -> float | None:
        """What they showed; None while they are too few."""

    def end_trial(self, name: str) -> None:
        """Forget it."""


@dataclass(slots=True)
class _Attempt:
    """A remedy in effect; `under` is the one that it came on top of."""

    order: Order
    under: "_Attempt | None"
    stage: Stage = Stage.RUNNING
    settled: float = 0.0

    @property
    def policy(self) -> Policy:
        return self.order.policy


class Remediator:
    """Owns every remedy in effect, and the safeguards.

    Args:
        policies: what is done about what.
        limits: of the safeguards.
        trials: what shows whether it helped.
        refused: told of each remedy that was held back at a look.
        judged: told of each that was tried: `helped`, `taken_back` or `failed`.
        dry_run: only say what would be done.
    """

    def __init__(
        self,
        policies: PolicyStore,
        limits: Limits,
        trials: Trials,
        *,
        refused: Callable[[Refusal], None],
        judged: Callable[[Policy, str], None],
        dry_run: bool = False,
    ) -> None:
        self._policies = policies
        self._limits = limits
        self._trials = trials
        self._refused = refused
        self._judged = judged
        self._dry_run = dry_run
        self._attempts: dict[Actuator, _Attempt] = {}
        self._alerted: set[str] = set()
        self.safeguards = {actuator: Safeguards(limits) for actuator in ALL}

    def look(self, statuses: Sequence[SloStatus], now: float) -> list[Order]:
        """After each look at the SLOs; returns what to do, in order.

        An `execute` is answered by `done` or `failed`, an `ease` by `eased`.
        """
        by_name = {status.name: status for status in statuses}
        orders = [*self._review(by_name, now), *self._resolved(statuses)]
        for slo in self._policies.slos:
            policy = self._policies[slo.name]
            if by_name[slo.name].state == "violated" and self._may(policy, now):
                orders.append(self._begin(policy, by_name, now))
        return orders

    def done(self, order: Order, now: float, *, changed: bool = True) -> None:
        """An `execute` was carried out. Without a change, at a bound, nothing is in effect."""
        attempt = self._current(order)
        if attempt is None:
            return
        self.safeguards[order.actuator].rests(now)
        if order.actuator == "webhook":
            self._alerted.update(status.name for status in order.statuses)
            self._succeed(attempt)
            self._drop(attempt)
        elif not changed:
            self._drop(attempt)
        else:
            attempt.stage = Stage.SETTLING
            attempt.settled = now + self._limits.settle_seconds
            self._trials.begin_trial(attempt.policy.slo.name, now)

    def failed(self, order: Order, now: float) -> None:
        """An `execute` could not be carried out."""
        if attempt := self._current(order):
            self.safeguards[order.actuator].rests(now)
            self._fail(attempt, "failed", now)

    def eased(self, order: Order, now: float, *, over: bool) -> None:
        """An `ease` was carried out; `over`: the actuator is where it was configured."""
        self.safeguards[order.actuator].moved(-order.policy.remedy.direction, now)
        if over:
            self._drop(self._attempts[order.actuator])

    def reset(self) -> None:
        """Actuators are brought back to where they were configured: nothing is in effect.

        What the safeguards know stays.
        """
        for attempt in tuple(self._attempts.values()):
            attempt.under = None
            self._drop(attempt)

    def _current(self, order: Order) -> _Attempt | None:
        """The attempt of an order; None when a reset came in between."""
        attempt = self._attempts.get(order.actuator)
        return attempt if attempt is not None and attempt.order is order else None

    # What is in effect.

    def _review(self, statuses: Mapping[str, SloStatus], now: float) -> Iterator[Order]:
        for attempt in tuple(self._attempts.values()):
            status = statuses[attempt.policy.slo.name]
            if attempt.stage is Stage.SETTLING and now >= attempt.settled:
                yield from self._verify(attempt, status, now)
            elif attempt.stage is Stage.HELD and not status.active:
                yield from self._give_up(attempt, status, now)

    def _verify(self, attempt: _Attempt, status: SloStatus, now: float) -> Iterator[Order]:
        helped = self._helped(attempt, status)
        if helped is None:
            return
        if helped:
            self._succeed(attempt)
            attempt.stage, attempt.under = Stage.HELD, None
        elif attempt.policy.remedy.actuator in REVERSIBLE:
            self._fail(attempt, "taken_back", now)
            yield Order("take_back", attempt.policy, (status,))
        else:
            self._fail(attempt, "failed", now)

    def _helped(self, attempt: _Attempt, status: SloStatus) -> bool | None:
        """None while nothing is known."""
        slo, before = attempt.policy.slo, attempt.order.statuses[0].value
        after = self._trials.trial(slo.name)
        if after is None or before is None:
            return None if status.active else True
        return slo.kept(after) or slo.gain(before, after) >= WORTH_KEEPING

    def _give_up(self, attempt: _Attempt, status: SloStatus, now: float) -> Iterator[Order]:
        self._trials.end_trial(status.name)  # a violation that comes back is another one
        actuator = attempt.policy.remedy.actuator
        if actuator != "limit":
            self._drop(attempt)
        elif not self.safeguards[actuator].cooling(now):
            yield Order("ease", attempt.policy, (status,))

    # What is violated.

    def _may(self, policy: Policy, now: float) -> bool:
        """Whether something is to be done about a violation now."""
        if policy.remedy.action == "none" or self._at_work(policy):
            return False
        guard = self.safeguards[policy.remedy.actuator]
        refusal = guard.refusal(policy.slo.name, policy.remedy.direction, now)
        if refusal is not None:
            self._refused(refusal)
        return refusal is None

    def _begin(self, policy: Policy, statuses: Mapping[str, SloStatus], now: float) -> Order:
        actuator = policy.remedy.actuator
        guard = self.safeguards[actuator]
        guard.moves(policy.slo.name, policy.remedy.direction, now)
        why = [statuses[policy.slo.name]]
        if actuator == "webhook":
            why.extend(self._also_to_tell(policy, statuses))
        order = Order("rehearse" if self._dry_run else "execute", policy, tuple(why))
        if self._dry_run:
            guard.release()
        else:
            self._attempts[actuator] = _Attempt(order, under=self._attempts.get(actuator))
        return order

    def _also_to_tell(
        self, first: Policy, statuses: Mapping[str, SloStatus]
    ) -> Iterator[SloStatus]:
        """One alert tells of all violations that ask for one."""
        for slo in self._policies.slos:
            policy, status = self._policies[slo.name], statuses[slo.name]
            untold = policy is not first and slo.name not in self._alerted
            if untold and policy.remedy.action == "alert" and status.state == "violated":
                yield status

    def _at_work(self, policy: Policy) -> bool:
        """Whether what the policy asks for is done already, or has not shown its effect yet."""
        if policy.remedy.action == "alert" and policy.slo.name in self._alerted:
            return True
        attempt = self._attempts.get(policy.remedy.actuator)
        if attempt is None or attempt.policy is not policy:
            return False
        after = self._trials.trial(policy.slo.name)
        # The window still holds streams from before it: those that came later count.
        return attempt.stage is not Stage.HELD or (after is not None and policy.slo.kept(after))

    def _resolved(self, statuses: Iterable[SloStatus]) -> Iterator[Order]:
        for status in statuses:
            if status.name in self._alerted and not status.active:
                self._alerted.remove(status.name)
                yield Order("resolve", self._policies[status.name], (status,))

    def _succeed(self, attempt: _Attempt) -> None:
        self.safeguards[attempt.policy.remedy.actuator].breaker.succeeded()
        self._judged(attempt.policy, "helped")

    def _fail(self, attempt: _Attempt, outcome: str, now: float) -> None:
        self.safeguards[attempt.policy.remedy.actuator].breaker.failed(now)
        self._judged(attempt.policy, outcome)
        self._drop(attempt)

    def _drop(self, attempt: _Attempt) -> None:
        """It is not in effect any more; what it came on top of still is."""
        actuator = attempt.policy.remedy.actuator
        self._trials.end_trial(attempt.policy.slo.name)
        self.safeguards[actuator].breaker.abandon()
        if attempt.under is not None:
            self._attempts[actuator] = attempt.under
        else:
            del self._attempts[actuator]
            self.safeguards[actuator].owner = None
