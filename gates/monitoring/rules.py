"""What a rule is, and how long its windows are. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from engine.qos_config import SloPolicy
from engine.rollout_config import LeaseSeconds
from gates.briefing import RUNBOOKS
from gates.stages import Policy

#: The jobs of the scrape configuration.
ENGINES: Final = "phase5-engines"
GUARD: Final = "phase5-guard"

#: The page with a section for each alert.
RUNBOOK: Final = RUNBOOKS / "alerts.md"

MINUTE: Final = 60.0
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

#: Seconds between two scrapes, and between two evaluations: the guard's evidence wants a scrape at
#: most 16 s before each minute's edge.
INTERVAL: Final = 15.0

#: The same where windows are shortened: what a server manages beside other work.
SHORTEST_INTERVAL: Final = 0.25


class Severity(StrEnum):
    """Whom an alert reaches."""

    PAGE = "page"  #: wakes somebody
    TICKET = "ticket"  #: waits for the morning


@dataclass(frozen=True, slots=True)
class Clock:
    """Writes durations, all of them shortened alike for a test that cannot wait for days.

    Attributes:
        scale: what a second of a rule lasts; 1 in earnest.
        interval: seconds between scrapes and between evaluations, whatever the scale.
    """

    scale: float = 1.0
    interval: float = INTERVAL

    def __call__(self, seconds: float) -> str:
        """A duration as PromQL has it.

        Raises:
            ValueError: it is shorter than a millisecond.
        """
        return _duration(seconds * self.scale)

    def seconds(self, seconds: float) -> str:
        """A number of seconds that an expression compares with."""
        return f"{seconds * self.scale:g}"

    @property
    def every(self) -> str:
        """The interval as PromQL has it."""
        return _duration(self.interval)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What thresholds are taken from, so that each stands in one place.

    Attributes:
        policy: `gates.yaml`.
        leases: `rollout.lease_seconds`.
        slos: `qos.policies`.
    """

    policy: Policy
    leases: LeaseSeconds = field(default_factory=LeaseSeconds)
    slos: Sequence[SloPolicy] = ()

    def of(self, criterion: str) -> float:
        """The limit of a criterion.

        Raises:
            ValueError: there is none of that name, or it has no limit.
        """
        found = self.policy.criteria.get(criterion)
        if found is None or found.limit is None:
            raise ValueError(
                f"gates.yaml: no criterion {criterion!r} with a limit; alerts take it from there"
            )
        return found.limit


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded series, with labels that it gets besides those of its expression."""

    name: str
    expression: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As a rule file has it."""
        rule: dict[str, Any] = {"record": self.name, "expr": self.expression}
        return {**rule, "labels": dict(self.labels)} if self.labels else rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that somebody has to look at.

    Attributes:
        name: what it is called; its section of the runbook has the same name.
        expression: true while it is the case.
        lasting: seconds that it must last before anybody hears of it.
        severity: whom it reaches.
        labels: that tell it from another one of the same name.
        summary: in one line, with the labels that tell it apart.
        description: both numbers, and what follows from them.
        command: what to run next; capitals stand for what a person fills in.
    """

    name: str
    expression: str
    lasting: float = 0.0
    severity: Severity = Severity.PAGE
    labels: Mapping[str, str] = field(default_factory=dict)
    summary: str
    description: str
    command: str = "phase5 status"

    def document(self, clock: Clock, runbooks: str) -> dict[str, Any]:
        """As a rule file has it; `runbooks` is what stands before the path of the page."""
        rule: dict[str, Any] = {"alert": self.name, "expr": self.expression}
        if self.lasting:
            rule["for"] = clock(self.lasting)
        return {
            **rule,
            "labels": {"severity": self.severity.value, **self.labels},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "command": self.command,
                "runbook_url": f"{runbooks}{RUNBOOK}#{anchor(self.name)}",
            },
        }


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together, in their order."""

    name: str
    rules: Sequence[Recording | Alert]


def anchor(name: str) -> str:
    """Where the section of an alert begins, as MkDocs and GitHub both make it of a heading."""
    return name.lower()


def joined(*parts: str) -> str:
    """The parts of an expression, all of which must hold."""
    return "\nand ".join(parts)


def of_engines(metric: str, *matchers: str, **labels: str) -> str:
    """A metric of the engines that are scraped; with further matchers, or labels that it has."""
    equal = [f'{name}="{value}"' for name, value in {"job": ENGINES, **labels}.items()]
    return f"{metric}{{{','.join([*equal, *matchers])}}}"


def _duration(seconds: float) -> str:
    milliseconds = round(1000 * seconds)
    if milliseconds < 1:
        raise ValueError(f"a window of {seconds:g} s; allowed: 1 ms or more")
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"
