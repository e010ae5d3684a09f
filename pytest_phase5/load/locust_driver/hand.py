"""A worker, inside Locust: a fork of the master, or a process on another machine.

A fork shares the master's clock and folder. A hand on another machine gets the plan with its
share, counts from when the start arrives, and sends its rows in its reports.
"""

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from gevent.event import AsyncResult
from locust.env import Environment
from locust.runners import WorkerRunner

from gates.samples import Sample, to_row
from pytest_phase5.load.locust_driver.parts import Desk, FileDesk, Part
from pytest_phase5.load.locust_driver.share import Share
from pytest_phase5.load.locust_driver.solo import fire
from pytest_phase5.load.plan_file import read_plan
from pytest_phase5.load.progress import Progress

#: Drawn before Locust forks: who has the same one is a fork on the same machine.
FAMILY: Final = uuid4().hex
#: Names of messages, in the order in which they are sent.
HELLO: Final = "phase5-hello"  #: hand: here I am
DEAL: Final = "phase5-deal"  #: master: this is your share
READY: Final = "phase5-ready"  #: hand: prepared
GO: Final = "phase5-go"  #: master: start
DONE: Final = "phase5-done"  #: hand: the share is over
#: The place of rows and progress in a report to the master.
REPORT: Final = "phase5"


class Hand:
    """A worker: a fork of the master, or a process on another machine."""

    def __init__(self, environment: Environment, plan: Path | None) -> None:
        self._environment, self._plan = environment, plan
        self._runner: WorkerRunner = environment.runner
        self._dealt: AsyncResult[dict[str, Any]] = AsyncResult()
        self._started: AsyncResult[float] = AsyncResult()
        self._share: Share | None = None
        self._runner.register_message(DEAL, lambda msg, **_: self._dealt.set(msg.data))
        self._runner.register_message(GO, lambda msg, **_: self._go(msg.data))

    def pump(self) -> None:
        """Ask for a share, walk it, and say so; the master ends Locust."""
        self._runner.send_message(HELLO, {"family": FAMILY, "pid": os.getpid()})
        deal = self._dealt.get()
        self._share = self._prepared(deal)
        self._runner.send_message(READY, None)
        self._share.walk(self._started.get())

    def stop(self, reason: str) -> None:
        """End early."""
        if self._share is not None:
            self._share.stop(reason)

    def _prepared(self, deal: dict[str, Any]) -> Share:
        plan, share = self._plan, int(deal["share"])
        desk: Desk
        if plan is None:
            # In this machine's folder of the run, which its processes share.
            plan = Path(f"plan-{os.getpid()}.json")
            plan.write_text(deal["plan"], encoding="utf-8")
            desk = MailDesk(self._environment)
        else:
            desk = FileDesk(plan.parent, share)
        desk = Herald(desk, self._runner, self._flush)
        return Share(read_plan(plan), share, int(deal["shares"]), desk, fire(self._environment))

    def _go(self, start: dict[str, Any]) -> None:
        """Forks start with the master's clock, others when the word arrives."""
        same = start["family"] == FAMILY
        self._started.set(start["origin"] if same else time.monotonic() + start["lead"])

    def _flush(self) -> None:
        """Report now, so that the master has every count before it hears of the end."""
        data: dict[str, Any] = {}
        self._environment.events.report_to_master.fire(client_id=self._runner.client_id, data=data)
        self._runner.send_message("stats", data)


class MailDesk:
    """Keeps rows and progress of a hand without a shared folder for its reports."""

    def __init__(self, environment: Environment) -> None:
        self._rows: list[dict[str, Any]] = []
        self._progress: list[Progress] = []
        environment.events.report_to_master.add_listener(self._report)

    def row(self, sample: Sample) -> None:
        """Keep a sample for the next report."""
        self._rows.append(to_row(sample))

    def progress(self, progress: Progress) -> None:
        """Keep the last progress for the next report."""
        self._progress = [progress]

    def part(self, part: Part) -> None:
        """The herald takes it along."""

    def _report(self, client_id: str, data: dict[str, Any]) -> None:  # noqa: ARG002 - Locust's names
        progress = [asdict(progress) for progress in self._progress]
        data[REPORT] = {"rows": self._rows, "progress": progress}
        self._rows, self._progress = [], []


class Herald:
    """A desk that tells the master when the share is over."""

    def __init__(self, desk: Desk, runner: WorkerRunner, flush: Callable[[], None]) -> None:
        self._desk, self._runner, self._flush = desk, runner, flush
        self.row, self.progress = desk.row, desk.progress

    def part(self, part: Part) -> None:
        """Close the books, send the last counts, then the word of the end."""
        self._desk.part(part)
        self._flush()
        self._runner.send_message(DONE, asdict(part))
