"""Since when the guard has seen each brake of an engine."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from gates.guarding.situation import Polled
from gates.standing import Cause

#: How long whoever braked an engine has for the store: a command gives its engines ten seconds.
OTHERS_WRITE: Final = timedelta(seconds=12)


@dataclass(slots=True)
class Noticed:
    """Owns the times. Brakes that an engine set by itself are nobody's to write down."""

    since: dict[str, datetime] = field(default_factory=dict)

    def note(self, engines: Iterable[Polled], now: datetime) -> None:
        """Remember what is new, and forget what is gone."""
        brakes = {
            served.brake
            for each in engines
            if each.view is not None
            for served in each.view.flags.values()
            if served.brake and served.cause != Cause.DEAD_MAN
        }
        self.since = {brake: self.since.get(brake, now) for brake in brakes}

    def recent(self, now: datetime) -> frozenset[str]:
        """Those that a command, or another guard, may just be writing into the store."""
        return frozenset(b for b, since in self.since.items() if now - since < OTHERS_WRITE)
