"""What the governor decides about single streams: see `admission.Guard`.

A stream that would get its first token too late is turned away at once: its client can go
elsewhere, and the slot serves one that is in time. A free slot never turns anybody away, so
whatever the forecast says, the engine goes on serving and the forecast goes on learning.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

from engine.core.admission import (
    MIN_RETRY_SECONDS,
    TOO_MANY_REQUESTS,
    WOULD_BE_LATE,
    Reject,
    Ticket,
)
from engine.core.forecast import Forecast
from engine.core.registry import StreamId
from engine.core.tenants import TenantBudgets
from engine.core.tokens import TokenBudget

#: An estimate beyond this is no better than a guess.
LONGEST_RETRY_SECONDS: Final = 30.0


class GovernorGuard:
    """Holds forecast, token budget and tenants together; `target_s` bounds the TTFT."""

    def __init__(self, target_s: float, tenants: TenantBudgets) -> None:
        self.forecast = Forecast()
        self.tokens = TokenBudget(target_s)
        self.tenants = tenants
        self._target = target_s
        self._running: dict[StreamId, str] = {}  # the tenant of each stream with a slot

    @property
    def running(self) -> int:
        """Streams that hold a slot."""
        return len(self._running)

    def refusal(
        self, ticket: Ticket, waiting: Collection[Ticket], running: int, limit: int, now: float
    ) -> Reject | None:
        """Turn it away when it would be late."""
        names = [other.tenant for other in waiting]
        ahead = self.tenants.ahead(ticket.tenant, names, limit, now)
        others = sum(other.prompt_tokens for other in waiting)
        tokens = (ticket.prompt_tokens + others) * (ahead + 1) // (len(waiting) + 1)
        wait = max(
            self.forecast.slot_seconds(ahead, running, limit),
            self.tokens.fitting_seconds(tokens, now),
        )
        first = (
            now
            - ticket.arrived
            + max(wait + self.forecast.first_text_seconds(now), self.tokens.seconds(tokens, now))
        )
        if first <= self._target:
            return None
        back = min(max(MIN_RETRY_SECONDS, first - self._target), LONGEST_RETRY_SECONDS)
        reason = f"its first token is expected after {first:.1f} s, later than {self._target:g} s"
        return Reject(TOO_MANY_REQUESTS, back, reason, WOULD_BE_LATE)

    def late(self, waiting: Collection[Ticket], now: float) -> list[Ticket]:
        """Those who would be late even with a slot at this moment."""
        if not waiting:
            return []
        arrived_by = now + self.forecast.first_text_seconds(now) - self._target
        return [ticket for ticket in waiting if ticket.governed and ticket.arrived < arrived_by]

    def displaced(self, ticket: Ticket, waiting: Collection[Ticket], count: int) -> list[Ticket]:
        """The newest of the tenant with most places, if it has more than the newcomer's will."""
        places = Counter(other.tenant for other in waiting if other.governed)
        if not places:
            return []
        most = max(places, key=lambda name: places[name])
        if places[most] - count < places[ticket.tenant] + count:
            return []
        theirs = [other for other in waiting if other.governed and other.tenant == most]
        return theirs[-count:]

    def fits(self, ticket: Ticket, now: float, before: Sequence[Ticket] = ()) -> bool:
        """Whether its prompt can be read along with all that is being read."""
        already = sum(other.prompt_tokens for other in before)
        return self.tokens.fits(ticket.prompt_tokens, now, already)

    def turn(self, waiting: Sequence[Ticket], limit: int, now: float) -> Sequence[Ticket]:
        """The streams of the tenant whose turn it is, in their order."""
        oldest: dict[str, float] = {}
        for ticket in waiting:
            oldest.setdefault(ticket.tenant, ticket.arrived)
        if len(oldest) == 1:
            return waiting
        tenant = self.tenants.next(oldest, limit, now)
        return [ticket for ticket in waiting if ticket.tenant == tenant]

    def started(self, ticket: Ticket, now: float) -> None:
        """Note who holds a slot since when, and what has to be read."""
        self._running[ticket.stream_id] = ticket.tenant
        self.forecast.started(ticket.stream_id, now)
        self.tokens.started(ticket.stream_id, ticket.prompt_tokens, now)
        self.tenants.started(ticket.tenant, now)

    def first_text(self, stream_id: StreamId, seconds: float, now: float) -> None:
        """A stream has its first text, `seconds` after it got its slot."""
        self.forecast.first_text(seconds, now)
        self.tokens.first_text(stream_id, seconds, now)

    def released(self, stream_id: StreamId, now: float) -> None:
        """Note that it is free again."""
        self.forecast.released(stream_id, now)
        self.tokens.ended(stream_id, now)
        tenant = self._running.pop(stream_id, None)
        if tenant is not None:
            self.tenants.released(tenant, now)
