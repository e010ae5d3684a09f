"""One process's share of a run, inside Locust: made ready, walked, and ended in any case."""

import gc
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import chain
from ssl import SSLContext, create_default_context
from typing import Final

import gevent
from gevent.pool import Group

from gates.samples import Sample
from pytest_phase5.load.collecting import no_collection
from pytest_phase5.load.locust_driver.flights import Flights
from pytest_phase5.load.locust_driver.parts import Desk, Part, mine
from pytest_phase5.load.locust_driver.wire import Connections
from pytest_phase5.load.plan import Plan
from pytest_phase5.load.progress import TICK
from pytest_phase5.load.ticket import Ticket

#: Seconds that requests under way get to record that they were cancelled.
_LANDING: Final = 2.0


class Share:
    """What one process sends. It ends once: walked to the end, or stopped with a reason."""

    def __init__(
        self,
        plan: Plan,
        share: int,
        shares: int,
        desk: Desk,
        fire: Callable[[Ticket, Sample], None],
    ) -> None:
        self._plan, self._share, self._shares = plan, share, shares
        self._desk, self._fire = desk, fire
        self._origin, self._started = 0.0, ""
        self._rows = 0
        self._group = Group()
        self._trouble = ""
        self._over = False
        blocks = [tuple(Ticket.of(plan, shot, {}) for shot in shots) for shots in plan.shots()]
        timeline = sorted(chain.from_iterable(blocks), key=lambda ticket: ticket.shot.due)
        self._blocks = blocks
        self._tickets = mine(timeline, share, shares)
        # Each process has its part of the room, and at least for one.
        self._room = max(1, plan.max_in_flight // shares)
        self._flights = Flights(
            targets=_targets(plan),
            clock=lambda: time.monotonic() - self._origin,
            timeout=plan.timeout,
            hand_on=self._land,
        )

    def walk(self, origin: float) -> None:
        """Send every request when it is due, counted from `origin`, and wait for the last."""
        self._origin = origin
        lead = origin - time.monotonic()
        self._started = datetime.fromtimestamp(time.time() + lead, UTC).isoformat()
        reporter = gevent.spawn(self._report)
        try:
            with no_collection():
                self._walk_closed() if self._plan.closed else self._walk_open()
                self._group.join()
        finally:
            reporter.kill()
        if not self._over:
            self._end(self._trouble)

    def stop(self, reason: str) -> None:
        """End the share, if it is not over; what is under way is recorded as cancelled."""
        if self._over:
            return
        self._over = True  # the walk, if there is one, sends no more
        if not self._started:
            self._origin = time.monotonic()
        self._group.kill(timeout=_LANDING)
        self._end(self._trouble or reason)

    def _walk_open(self) -> None:
        for ticket in self._tickets:
            due = ticket.shot.due
            _until(due, self._flights.clock)
            if self._over:
                return
            if self._flights.in_flight >= self._room:
                self._flights.drop(ticket, due)
            else:
                self._spawn(self._flights.fly, ticket, due)

    def _walk_closed(self) -> None:
        """Block after block; in a block, a request is due when its predecessor ended."""
        _until(0.0, self._flights.clock)
        for block, tickets in zip(self._plan.blocks, self._blocks, strict=True):
            if self._over:
                return
            waiting = iter(tickets)
            begin = self._flights.clock()
            for _ in range(min(block.concurrency, len(tickets))):
                self._spawn(self._lane, waiting, begin)
            self._group.join()

    def _lane(self, waiting: Iterator[Ticket], begin: float) -> None:
        due = begin
        for ticket in waiting:
            due = self._flights.fly(ticket, due)

    def _spawn(self, call: Callable[..., object], *arguments: object) -> None:
        self._group.spawn(call, *arguments).link_exception(self._broke)

    def _broke(self, greenlet: gevent.Greenlet) -> None:
        # gevent has printed the traceback; the row of this request is missing.
        self._trouble = f"a request broke the driver: {type(greenlet.exception).__name__}"

    def _land(self, ticket: Ticket, sample: Sample) -> None:
        self._rows += 1
        self._desk.row(sample)
        self._fire(ticket, sample)

    def _report(self) -> None:
        while True:
            gevent.sleep(TICK)
            self._tell()

    def _tell(self) -> None:
        gc.collect(1)  # what is young: a little each time, where hours of it would be much
        self._desk.progress(self._flights.progress(len(self._tickets)))

    def _end(self, reason: str) -> None:
        self._over = True
        self._tell()
        self._desk.part(
            Part(
                share=self._share,
                shares=self._shares,
                complete=not reason,
                reason=reason,
                started=self._started,
                origin=self._origin,
                rows=self._rows,
                connections=sum(target.opened for target in self._flights.targets.values()),
            )
        )


def _until(due: float, clock: Callable[[], float]) -> None:
    # Also when late: the greenlets just made must get their turn to send.
    gevent.sleep(max(0.0, due - clock()))
    # A loop counts from the time of its turn and may wake up early.
    while (left := due - clock()) > 0:
        gevent.sleep(left)


def _targets(plan: Plan) -> dict[str, Connections]:
    context = _context(plan)
    bases = (target.rstrip("/") for target in plan.targets.values())
    return {base: Connections(base, context) for base in bases}


def _context(plan: Plan) -> SSLContext | None:
    secure = any(target.startswith("https:") for target in plan.targets.values())
    return create_default_context(cafile=plan.ca_file) if secure else None
