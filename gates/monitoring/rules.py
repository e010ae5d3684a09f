"""What a rule is, and how long its windows are. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any, Final

#: The jobs of the scrape configuration.
ENGINES: Final = "phase5-engines"
GUARD: Final = "phase5-guard"

#: The page with a section for each alert.
RUNBOOK: Final = PurePosixPath("docs/phase5/runbooks/alerts.md")

MINUTE: Final = 60.0
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR


class Severity(StrEnum):
    """Whom an alert reaches."""

    PAGE = "page"  #: wakes somebody
    TICKET = "ticket"  #: waits for the morning


@dataclass(frozen=True, slots=True)
class Clock:
    """Writes durations, all of them shortened alike for a test that cannot wait for days.

    Attributes:
        scale: what a second of a rule lasts; 1 in earnest.
    """

    scale: float = 1.0

    def __call__(self, seconds: float) -> str:
        """A duration as PromQL has it.

        Raises:
            ValueError: it is shorter than a millisecond.
        """
        milliseconds = round(1000 * seconds * self.scale)
        if milliseconds < 1:
            raise ValueError(f"{seconds:g} s at scale {self.scale:g}; allowed: 1 ms or more")
        for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
            if milliseconds % size == 0:
                return f"{milliseconds // size}{unit}"
        return f"{milliseconds}ms"

    def seconds(self, seconds: float) -> str:
        """A number of seconds that an expression compares with."""
        return f"{seconds * self.scale:g}"


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded series."""

    name: str
    expression: str

    def document(self, clock: Clock) -> dict[str, Any]:
        """As a rule file has it."""
        del clock
        return {"record": self.name, "expr": self.expression}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that somebody has to look at.

    Attributes:
        name: what it is called; its section of the runbook has the same name.
        expression: true while it is the case.
        lasting: seconds that it must last before anybody hears of it.
        severity: whom it reaches.
        summary: in one line, with the labels that tell it apart.
        description: both numbers, and what follows from them.
        command: what to run next; capitals stand for what a person fills in.
    """

    name: str
    expression: str
    lasting: float = 0.0
    severity: Severity = Severity.PAGE
    summary: str
    description: str
    command: str = "phase5 status"

    def document(self, clock: Clock, runbooks: str = "") -> dict[str, Any]:
        """As a rule file has it; `runbooks` is what stands before the path of the page."""
        rule: dict[str, Any] = {"alert": self.name, "expr": self.expression}
        if self.lasting:
            rule["for"] = clock(self.lasting)
        return {
            **rule,
            "labels": {"severity": self.severity.value},
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
    interval: float  #: seconds
    rules: Sequence[Recording | Alert] = field(default_factory=tuple)


def anchor(name: str) -> str:
    """Where the section of an alert begins, as MkDocs and GitHub both make it of a heading."""
    return name.lower()


def joined(*parts: str) -> str:
    """The parts of an expression, all of which must hold."""
    return "\nand ".join(parts)
