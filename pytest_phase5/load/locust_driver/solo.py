"""One process alone, inside Locust; and how Locust is told of each request."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import gevent
from locust.env import Environment
from locust.runners import Runner

from gates.samples import Outcome, Sample
from pytest_phase5.load.locust_driver.parts import FIRST_TOKEN, WHOLE, FileDesk
from pytest_phase5.load.locust_driver.share import Share
from pytest_phase5.load.plan_file import read_plan
from pytest_phase5.load.ticket import Ticket

#: Seconds between the last preparation and the first request: enough for a message to all.
LEAD: Final = 0.2


class LoadError(Exception):
    """Why a request counts as a failure in Locust's tables: a short reason, no text of it."""


def fire(environment: Environment) -> Callable[[Ticket, Sample], None]:
    """What tells Locust of each measured request; latencies count from the scheduled time."""

    def tell(ticket: Ticket, sample: Sample) -> None:
        if sample.outcome is Outcome.DROPPED:
            return  # Locust counts what was sent
        name = f"{sample.arm} {ticket.shot.request.path}"
        failed = sample.outcome not in {Outcome.OK, Outcome.CANCELLED}
        error = LoadError(f"{sample.outcome}: {sample.error}") if failed else None
        _event(environment, WHOLE, name, sample.latency, error)
        if sample.ttft is not None:
            _event(environment, FIRST_TOKEN, name, sample.ttft, None)

    return tell


def _event(
    environment: Environment, kind: str, name: str, seconds: float | None, error: Exception | None
) -> None:
    environment.events.request.fire(
        request_type=kind,
        name=name,
        response_time=None if seconds is None else seconds * 1e3,
        response_length=0,
        exception=error,
        context={},
    )


class Solo:
    """One process alone."""

    def __init__(self, environment: Environment, plan: Path) -> None:
        self._runner: Runner = environment.runner
        self._share = Share(read_plan(plan), 0, 1, FileDesk(plan.parent, 0), fire(environment))

    def pump(self) -> None:
        """Walk the whole schedule, then end Locust."""
        self._share.walk(time.monotonic() + LEAD)
        gevent.spawn(self._runner.quit)  # not from here: it ends this greenlet too

    def stop(self, reason: str) -> None:
        """End early."""
        self._share.stop(reason)
