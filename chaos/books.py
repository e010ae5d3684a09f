"""What is written down while an experiment goes on, and how what was begun is undone."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import TypeVar

from chaos.judging import Step
from gates.evidence import Brought, Sample

T = TypeVar("T")


@dataclass(slots=True)
class Books:
    """Of one arm of a run. The only owner of what is on record."""

    begun: float = field(default_factory=time.monotonic)
    marks: dict[str, float] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    rollbacks: list[Step] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)

    def mark(self, name: str) -> None:
        """Something begins now."""
        self.marks[name] = time.monotonic()

    def take(self, flow: str, end: Callable[[], Brought]) -> Sequence[Sample]:
        """End a flow and keep what it brought."""
        brought = end()
        self.samples.setdefault(flow, []).extend(brought.samples)
        if brought.trouble:
            self.invalid.append(f"traffic {flow}: {brought.trouble}")
        return brought.samples

    def step(self, what: str, action: Callable[[], T]) -> T:
        """Do one thing of the method; what goes wrong is on record, and goes on."""
        at = time.monotonic()
        try:
            answer = action()
        except Exception as error:
            self.missed(what, at, error)
            raise
        self.steps.append(Step(what=what, at=at, ok=True))
        return answer

    def missed(self, what: str, at: float, error: Exception) -> None:
        """Something of the method did not come about."""
        self.steps.append(Step(what=what, at=at, ok=False, detail=str(error)))

    def enter(self, undo: ExitStack, what: str, manager: AbstractContextManager[T]) -> T:
        """Begin something that is undone with the rest; how that went is on record."""
        value = manager.__enter__()
        undo.callback(self.rollback, what, lambda: manager.__exit__(None, None, None))
        return value

    def rollback(self, what: str, action: Callable[[], object]) -> None:
        """Undo one thing; that it could not be undone must not keep the rest from it."""
        at = time.monotonic()
        try:
            action()
        except Exception as error:  # noqa: BLE001 - the journal says so, and the verdict goes by it
            self.rollbacks.append(Step(what=what, at=at, ok=False, detail=str(error)))
        else:
            self.rollbacks.append(Step(what=what, at=at, ok=True))
