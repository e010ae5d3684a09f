"""What may be done about a violated SLO, and which of it would make it worse.

The governor lowers the limit of streams when TTFT is over its target. A remedy for the same
violation that lets more streams run would fight it, so none exists: a remedy only ever caps
the limit, and which remedies suit a metric stands in the tables below.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from engine.core.qos import Slo

Action = Literal["none", "throttle", "scale_up", "scale_down", "restart", "alert"]
Actuator = Literal["limit", "replicas", "runtime", "webhook"]

#: What each action moves. An actuator has one owner at a time.
ACTUATORS: Final[Mapping[Action, Actuator]] = {
    "throttle": "limit",
    "scale_up": "replicas",
    "scale_down": "replicas",
    "restart": "runtime",
    "alert": "webhook",
}

#: Which way. Two that move one actuator in opposite directions can chase each other.
DIRECTIONS: Final[Mapping[Action, int]] = {
    "throttle": -1,
    "scale_up": +1,
    "scale_down": -1,
    "restart": 0,
    "alert": 0,
}

_RELIEF: Final[tuple[Action, ...]] = ("throttle", "scale_up", "restart")

#: What brings a metric down: for a ceiling.
LOWERING: Final[Mapping[str, tuple[Action, ...]]] = {
    "ttft_p95_ms": _RELIEF,
    "latency_p99_ms": _RELIEF,
    "error_rate": _RELIEF,
    "throughput_tps": ("throttle", "scale_down"),
}

#: What brings it up: for a floor. A floor on a time says that the engine is larger than it
#: needs to be; no error rate is too low.
RAISING: Final[Mapping[str, tuple[Action, ...]]] = {
    "ttft_p95_ms": ("scale_down",),
    "latency_p99_ms": ("scale_down",),
    "error_rate": (),
    "throughput_tps": ("scale_up", "restart"),
}


@dataclass(frozen=True, slots=True)
class Remedy:
    """What is done about a violation.

    Attributes:
        factor: a throttle leaves this share of the streams.
        step: replicas that a scaling adds or takes away.
    """

    action: Action = "none"
    factor: float = 0.7
    step: int = 1

    @property
    def actuator(self) -> Actuator:
        """What it moves."""
        return ACTUATORS[self.action]

    @property
    def direction(self) -> int:
        """+1, -1, or 0 for what has no direction."""
        return DIRECTIONS[self.action]


@dataclass(frozen=True, slots=True)
class Policy:
    """One SLO and what is done about it."""

    slo: Slo
    remedy: Remedy


def suitable(metric: str, *, ceiling: bool) -> tuple[Action, ...]:
    """The actions that act against a violation and not for it."""
    table = LOWERING if ceiling else RAISING
    return ("none", "alert", *table[metric])


class PolicyStore:
    """The policies that serve, those of critical SLOs first, else in the order given.

    Raises:
        ValueError: an action that does not suit its metric, or a name given twice.
    """

    def __init__(self, policies: Iterable[Policy]) -> None:
        ordered = sorted(policies, key=lambda policy: policy.slo.severity != "critical")
        self._policies = {policy.slo.name: policy for policy in ordered}
        if len(self._policies) != len(ordered):
            raise ValueError("SLO names must differ")
        for policy in ordered:
            _check(policy)

    @property
    def slos(self) -> list[Slo]:
        """Every SLO, in order."""
        return [policy.slo for policy in self._policies.values()]

    def __getitem__(self, name: str) -> Policy:
        return self._policies[name]


def _check(policy: Policy) -> None:
    slo, action = policy.slo, policy.remedy.action
    allowed = suitable(slo.metric, ceiling=slo.max is not None)
    if action not in allowed:
        raise ValueError(misfit(slo.name, slo.metric, action, allowed))


def misfit(name: str, metric: str, action: str, allowed: Iterable[str]) -> str:
    """The words for an action that would make its violation worse."""
    return (
        f"policy {name!r}: action {action!r} does not act against this violation of {metric}; "
        f"allowed: {', '.join(allowed)}"
    )
