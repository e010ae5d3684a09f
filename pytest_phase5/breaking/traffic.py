"""The load generator as `gates.traffic.Traffic`: one process a flow, several at a time."""

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Final

from gates.samples import Sample, read_rows
from gates.traffic import Brought, Flow
from pytest_phase5.load.checks import RunReport, lag_of, read_report
from pytest_phase5.load.driver import (
    GENERATOR,
    GRACE,
    LOG_FILE,
    PLAN_FILE,
    REPORT_FILE,
    ROWS_FILE,
    start_child,
)
from pytest_phase5.load.plan import Block, Plan
from pytest_phase5.load.plan_file import write_plan
from pytest_phase5.load.progress import PROGRESS_FILE, ProgressReader
from pytest_phase5.load.schedule import constant
from pytest_phase5.load.workload import Workload, requests

#: Seconds that requests may be sent late, at the 99th percentile: experiments judge service by
#: windows of half a second, and each time counts from when it was due.
LAG_SECONDS: Final = 0.5


@dataclass(slots=True)
class Generators:
    """Starts a generator for each flow; each has a folder of its own below `folder`."""

    folder: Path

    def __post_init__(self) -> None:
        """Number the folders."""
        self._next: Callable[[], int] = count().__next__

    _next: Callable[[], int] = int

    def start(self, flow: Flow, *, url: str, model: str, seconds: float, seed: int) -> "Generator":
        """See `Traffic.start`."""
        name = re.sub(r"[^a-z0-9]+", "-", flow.name.lower())
        folder = self.folder / f"{self._next():03}-{name}"
        folder.mkdir(parents=True)
        write_plan(folder / PLAN_FILE, _plan(flow, url, model, seconds, seed))
        return Generator(start_child(GENERATOR, folder), folder)


@dataclass(slots=True)
class Generator:
    """A flow under way."""

    process: "subprocess.Popen[bytes]"
    folder: Path
    _progress: ProgressReader = field(init=False)
    _sent: int = 0

    def __post_init__(self) -> None:
        """It writes how far it is once a second."""
        self._progress = ProgressReader(self.folder / PROGRESS_FILE)

    def sent(self) -> int:
        """See `Running.sent`."""
        for progress in self._progress.new():
            self._sent = progress.sent
        return self._sent

    def wait(self) -> Brought:
        """See `Running.wait`."""
        try:
            self.process.wait()
        finally:
            self._end()
        return self._brought(complete=True)

    def stop(self) -> Brought:
        """See `Running.stop`."""
        self._end()
        return self._brought(complete=False)

    def _end(self) -> None:
        """The end of its standard input stops it; it then writes what there is."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _brought(self, *, complete: bool) -> Brought:
        report_file = self.folder / REPORT_FILE
        if not report_file.exists():
            return Brought(samples=(), trouble=f"the generator ended: {self._last_line()}")
        report = read_report(report_file)
        samples = tuple(_absolute(s, report) for s in read_rows(self.folder / ROWS_FILE))
        lag = lag_of(samples)
        late = lag is not None and lag > LAG_SECONDS
        trouble = f"sent {lag:.3g} s late at the 99th percentile" if late else ""
        if complete and not report.complete:
            trouble = f"cut short: {report.reason}"
        return Brought(samples=samples, trouble=trouble)

    def _last_line(self) -> str:
        text = (self.folder / LOG_FILE).read_text("utf-8", "replace").strip()
        return text.splitlines()[-1] if text else f"exit status {self.process.returncode}"


def _plan(flow: Flow, url: str, model: str, seconds: float, seed: int) -> Plan:
    workload = Workload(
        name=flow.name,
        words=(flow.words, flow.words),
        tokens=(flow.tokens, flow.tokens),
        system="Answer.",
        model=model,
    )
    number = flow.streams or max(1, round(flow.rate * seconds))
    arrivals = () if flow.streams else constant(flow.rate, number)
    block = Block(
        arm="treatment",
        requests=requests(workload, number, seed),
        arrivals=arrivals,
        concurrency=flow.streams or 1,
    )
    return Plan(
        targets={"treatment": url},
        blocks=(block,),
        closed=bool(flow.streams),
        timeout=flow.timeout,
        lag_limit=LAG_SECONDS,
        driver=flow.protocol,
    )


def _absolute(sample: Sample, report: RunReport) -> Sample:
    """On the clock of the machine: several generators have no other clock in common."""

    def moved(at: float | None) -> float | None:
        return None if at is None else report.origin + at

    return replace(
        sample,
        scheduled=report.origin + sample.scheduled,
        sent=moved(sample.sent),
        first_token=moved(sample.first_token),
        end=moved(sample.end),
    )
