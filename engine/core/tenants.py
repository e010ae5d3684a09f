"""Fair parts: one tenant cannot take every slot while others wait.

Each tenant has two budgets, as shares of the slots. *Burst* bounds the slots that it holds at
this moment, *sustained* the slots that it held on average lately. Neither ever turns anybody
away: they only decide who is next among those who wait. A tenant that is alone has it all.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import exp
from typing import Final

#: Average slots below which a tenant that holds none is forgotten. All averages together are
#: at most the slots that were held, so there are at most 100 records for each slot.
FORGOTTEN_BELOW: Final = 0.01

#: Within both budgets 0, and one more for each that is used up.
Standing = int


@dataclass(slots=True)
class _Tenant:
    """`average` is the mean of the slots held, older times weighing exponentially less."""

    held: int = 0
    average: float = 0.0
    at: float = 0.0


class TenantBudgets:
    """Counts slots by tenant. A tenant that has been silent for long has no record.

    Args:
        burst_share: of the slots, above which a tenant yields to others.
        sustained_share: the same for its average.
        decay_seconds: time constant of the average: after this long without a slot it has
            fallen to 37 per cent.

    Raises:
        ValueError: a share outside 0 to 1, or no decay.
    """

    def __init__(self, burst_share: float, sustained_share: float, decay_seconds: float) -> None:
        if not 0 < sustained_share <= 1 or not 0 < burst_share <= 1 or decay_seconds <= 0:
            raise ValueError(
                f"shares must be above 0 and at most 1, and the decay above 0, given "
                f"{burst_share}, {sustained_share}, {decay_seconds}"
            )
        self._burst = burst_share
        self._sustained = sustained_share
        self._decay = decay_seconds
        self._tenants: dict[str, _Tenant] = {}

    def __len__(self) -> int:
        """How many tenants have a record."""
        return len(self._tenants)

    def held(self, tenant: str) -> int:
        """How many slots a tenant holds now."""
        record = self._tenants.get(tenant)
        return 0 if record is None else record.held

    def average(self, tenant: str, now: float) -> float:
        """How many slots a tenant held lately, on average."""
        record = self._tenants.get(tenant)
        return 0.0 if record is None else self._aged(record, now).average

    def started(self, tenant: str, now: float) -> None:
        """A stream of the tenant got a slot."""
        self._aged(self._tenants.setdefault(tenant, _Tenant(at=now)), now).held += 1

    def released(self, tenant: str, now: float) -> None:
        """A stream of the tenant gave its slot back; one that holds none has none to give."""
        record = self._tenants.get(tenant)
        if record is None or record.held == 0:
            return
        self._aged(record, now).held -= 1
        self._forget(tenant, record)

    def standing(self, tenant: str, limit: int, now: float) -> Standing:
        """How many of its budgets a tenant has used up, where `limit` slots are to be had."""
        held, average = self.held(tenant), self.average(tenant, now)
        over_burst = held >= max(1.0, self._burst * limit)
        return int(over_burst) + int(average >= self._sustained * limit)

    def next(self, oldest: Mapping[str, float], limit: int, now: float) -> str:
        """Whose turn it is: `oldest` has when the oldest waiting stream of each tenant came.

        Best standing first, then first come. Nobody starves: without a slot the average
        decays until the standing is 0, and there only those who came earlier are ahead.
        """
        return min(oldest, key=lambda name: (self.standing(name, limit, now), oldest[name]))

    def ahead(self, tenant: str, waiting: Iterable[str], limit: int, now: float) -> int:
        """How many of those who wait a newcomer lets go first; one tenant each, repeated."""
        own = self.standing(tenant, limit, now)
        standings: dict[str, Standing] = {}
        count = 0
        for name in waiting:
            if name not in standings:
                standings[name] = self.standing(name, limit, now)
            count += standings[name] <= own
        return count

    def forget_idle(self, now: float) -> int:
        """Drop the records that say nothing any more; returns how many."""
        before = len(self._tenants)
        for name, record in list(self._tenants.items()):
            self._forget(name, self._aged(record, now))
        return before - len(self._tenants)

    def _forget(self, tenant: str, record: _Tenant) -> None:
        if record.held == 0 and record.average < FORGOTTEN_BELOW:
            del self._tenants[tenant]

    def _aged(self, record: _Tenant, now: float) -> _Tenant:
        """Bring the average up to now: it approaches what was held since the last time."""
        kept = exp((record.at - now) / self._decay) if now > record.at else 1.0
        record.average = record.held + (record.average - record.held) * kept
        record.at = max(now, record.at)
        return record
