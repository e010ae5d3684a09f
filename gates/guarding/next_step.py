"""What to do about each thing that the guard tells: the command, and the page. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gates.briefing import RUNBOOKS
from gates.guarding.situation import Tell


@dataclass(frozen=True, slots=True)
class NextStep:
    """What a page ends with."""

    command: str  #: capitals stand for what a person must fill in
    page: str  #: of the runbooks

    @property
    def runbook(self) -> str:
        """The page, from the root of the repository."""
        return str(RUNBOOKS / self.page)


_LOOK: Final = "phase5 status"
_BACK: Final = "phase5 rollback --flag FLAG --reason WHY"

#: By what stands before the first colon of a `Tell.key`.
STEPS: Final[Mapping[str, NextStep]] = {
    "store": NextStep(_LOOK, "store.md"),
    "rollback": NextStep(_LOOK, "incident-response.md"),
    "engine": NextStep(_LOOK, "incident-response.md"),
    "blind": NextStep("phase5 doctor", "monitoring-checklist.md"),
    "frozen": NextStep(_LOOK, "incident-response.md"),
    "ahead": NextStep(_LOOK, "store.md"),
    "kept": NextStep(_BACK, "rollback-procedure.md"),
    "unmanaged": NextStep(_BACK, "incident-response.md"),
    "judge": NextStep(_LOOK, "incident-response.md"),
}


def next_step(tell: Tell) -> NextStep:
    """What to do about it.

    Raises:
        KeyError: nobody wrote down what to do about this kind.
    """
    return STEPS[tell.key.partition(":")[0]]
