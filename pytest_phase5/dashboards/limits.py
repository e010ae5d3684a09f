"""The lines on the panels: limits of `gates.yaml`, each by the criterion that it comes from."""

from dataclasses import dataclass
from typing import Final

from engine.server.metrics import TTFT_BUCKETS
from gates.criteria import HIGHER
from gates.stages import Policy

GOOD: Final = "green"
BAD: Final = "red"


@dataclass(frozen=True, slots=True)
class Line:
    """A limit; `above` is the colour beyond it, `below` the one before it."""

    value: float
    below: str = GOOD
    above: str = BAD


def most(value: float) -> Line:
    """What lies above is bad."""
    return Line(value)


def least(value: float) -> Line:
    """What lies below is bad."""
    return Line(value, below=BAD, above=GOOD)


def limit(policy: Policy, criterion: str) -> Line | None:
    """The limit of a criterion, or its margin; None where the policy demands no such thing."""
    found = policy.criteria.get(criterion)
    value = None if found is None else found.limit if found.margin is None else found.margin
    if found is None or value is None:
        return None
    return least(value) if found.measure in HIGHER else most(value)


def ttft_edge(policy: Policy) -> float | None:
    """The edge of the buckets of TTFT at its limit, or the last before; None without a limit."""
    line = limit(policy, "ttft_p95_ms")
    return max((e for e in TTFT_BUCKETS if line and e <= line.value), default=None)
