"""Minutes of live traffic that are made up, and a clock by which they pass."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from live_builders import HEADER, counts

from gates.guarding.acting import Deeds
from gates.guarding.evidence import Minutes
from gates.guarding.journal import Journal
from gates.guarding.ledgers import Ledgers
from gates.guarding.loop import Guard
from gates.guarding.metrics import GuardMetrics
from gates.guarding.reading import Reading
from gates.ledger import CLOSED_AFTER, CONTROL, TREATMENT, Counts, Header, Row, minute_of
from gates.live import SourceError
from gates.policy import load_policy
from gates.standing import Standing
from gates.store import Store

ENTERED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass
class MadeUp:
    """Healthy minutes, but for the flags that are bad from some minute on."""

    engines: tuple[str, ...] = ("e1", "e2")
    bad: dict[str, int] = field(default_factory=dict)
    lost: str = ""  #: why nothing is known
    invalid: str = ""  #: why the minutes show nothing
    crashed: int = 0  #: the minute in which an engine restarted twice
    build: tuple[str, str] = ("abc", "def")

    def header(self, flag: str, standing: Standing, now: datetime) -> Header:
        assert now.tzinfo
        if self.lost:
            raise SourceError(self.lost)
        commit, config = self.build
        return replace(
            HEADER,
            flag=flag,
            epoch=standing.epoch,
            stage=standing.stage,
            share=standing.percentage / 100,
            commit=commit,
            config_sha256=config,
        )

    def rows(self, header: Header, first: int, last: int) -> Iterator[Row]:
        if self.lost:
            raise SourceError(self.lost)
        for minute in range(first, last + 1):
            yield Row(
                minute=minute,
                counts=() if self.invalid else self._counts(header, minute),
                engines=self.engines,
                commit=header.commit,
                config_sha256=header.config_sha256,
                invalid=self.invalid,
                crashes={self.engines[0]: 2} if minute == self.crashed else {},
            )

    def _counts(self, header: Header, minute: int) -> tuple[Counts, ...]:
        treated = round(6_000 * header.share)
        faulty = minute >= self.bad.get(header.flag, minute + 1)
        return (
            counts(TREATMENT, treated, treated // 5 if faulty else 0),
            counts(CONTROL, 6_000 - treated, 0),
        )


class Clock:
    """A clock that stands still between two polls."""

    def __init__(self) -> None:
        self.now = ENTERED + timedelta(minutes=12)

    def __call__(self) -> datetime:
        return self.now

    def closed_now(self) -> int:
        """The last minute that is closed."""
        return minute_of(self.now - timedelta(seconds=CLOSED_AFTER)) - 1


def guard_on(folder: Path, store: Store, evidence: Minutes, clock: object) -> Guard:
    """A guard in a folder, by the packaged policy."""
    policy = load_policy()
    folder.mkdir(exist_ok=True)
    return Guard(
        folder=folder,
        reading=Reading(store, folder),
        evidence=evidence,
        ledgers=Ledgers(folder, policy),
        deeds=Deeds(policy=policy, store=store, journal=Journal.open(folder)),
        metrics=GuardMetrics(),
        leases={"canary": 900.0, "early": 900.0, "mid": 1800.0},
        clock=clock,  # type: ignore[arg-type] # any callable that gives a time
    )
