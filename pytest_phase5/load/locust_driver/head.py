"""The master, inside Locust: deals shares to the hands and gives one start for all.

It starts only when every hand is ready, and ends the run when every share is over, or as soon
as a hand leaves: a schedule with a hole in it measures nothing.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import gevent
import psutil
from locust.env import Environment
from locust.rpc import Message
from locust.runners import STATE_MISSING, MasterRunner

from gates.samples import from_row
from pytest_phase5.load.locust_driver.hand import DEAL, DONE, FAMILY, GO, HELLO, READY, REPORT
from pytest_phase5.load.locust_driver.parts import FileDesk, Part, write_part
from pytest_phase5.load.locust_driver.solo import LEAD
from pytest_phase5.load.progress import Progress

#: Seconds between two looks at whether the hands are all there.
_LOOK: Final = 0.5


@dataclass(slots=True)
class Member:
    """One hand, as the master knows it."""

    fork: psutil.Process | None  #: None: on another machine
    share: int | None = None
    desk: FileDesk | None = None  #: the files of one on another machine
    ready: bool = False
    done: bool = False


class Head:
    """Waits for all hands, starts them, collects what they have, ends the run."""

    def __init__(self, environment: Environment, plan: Path) -> None:
        self._plan = plan
        self._runner: MasterRunner = environment.runner
        self._expected = int(environment.parsed_options.expect_workers)
        self._members: dict[str, Member] = {}
        self._origin, self._started = time.monotonic(), datetime.now(UTC)
        self._over = False
        for name, listen in ((HELLO, self._hello), (READY, self._ready), (DONE, self._done)):
            self._runner.register_message(name, listen)
        environment.events.worker_report.add_listener(self._report)
        self._runner.greenlet.spawn(self._watch)

    def stop(self, reason: str) -> None:
        """Say why the run ends early; the workers end by themselves."""
        self._end(reason)

    def _hello(self, environment: Environment, msg: Message) -> None:  # noqa: ARG002 - Locust's names
        if len(self._members) == self._expected or self._over:
            return  # one too many has nothing to do
        fork = psutil.Process(msg.data["pid"]) if msg.data["family"] == FAMILY else None
        self._members[msg.node_id] = Member(fork)
        if len(self._members) == self._expected:
            self._deal()

    def _deal(self) -> None:
        for share, (node, member) in enumerate(sorted(self._members.items())):
            member.share = share
            data: dict[str, Any] = {"share": share, "shares": self._expected}
            if member.fork is None:
                member.desk = FileDesk(self._plan.parent, share)
                data["plan"] = self._plan.read_text(encoding="utf-8")
            self._runner.send_message(DEAL, data, node)

    def _ready(self, environment: Environment, msg: Message) -> None:  # noqa: ARG002 - as above
        self._members[msg.node_id].ready = True
        if all(member.ready for member in self._members.values()):
            self._origin = time.monotonic() + LEAD
            self._started = datetime.now(UTC)
            start = {"family": FAMILY, "origin": self._origin, "lead": LEAD}
            for node in self._members:
                self._runner.send_message(GO, start, node)

    def _report(self, client_id: str, data: dict[str, Any]) -> None:
        member = self._members.get(client_id)
        if member is None or member.desk is None or REPORT not in data:
            return
        for row in data[REPORT]["rows"]:
            member.desk.row(from_row(row))
        for progress in data[REPORT]["progress"]:
            member.desk.progress(Progress(**progress))

    def _done(self, environment: Environment, msg: Message) -> None:  # noqa: ARG002 - as above
        member = self._members[msg.node_id]
        member.done = True
        if member.desk is not None:
            member.desk.part(Part(**msg.data))
        if all(member.done for member in self._members.values()):
            self._end("")
            gevent.spawn(self._runner.quit)  # not from here: it ends this greenlet too

    def _watch(self) -> None:
        """End the run when a hand is gone before its share is over."""
        while not self._over:
            gevent.sleep(_LOOK)
            for node, member in self._members.items():
                if not member.done and self._is_gone(node, member):
                    self._end(f"worker {member.share} of {self._expected} left")
                    gevent.spawn(self._runner.quit)
                    return

    def _is_gone(self, node: str, member: Member) -> bool:
        """Locust knows by missing heartbeats, after some seconds; of a fork we know at once."""
        if member.fork is not None and _is_dead(member.fork):
            return True
        client = self._runner.clients.get(node)
        return client is None or client.state == STATE_MISSING

    def _end(self, reason: str) -> None:
        if self._over:
            return
        self._over = True
        part = Part(
            share=None,
            shares=self._expected,
            complete=not reason,
            reason=reason,
            started=self._started.isoformat(),
            origin=self._origin,
        )
        write_part(self._plan.parent, part)


def _is_dead(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
