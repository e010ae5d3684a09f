"""The parent's side of a run: start its driver, wait with a bound, read back, check."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

from gates.samples import Sample, read_rows
from pytest_phase5.load.checks import GaveWay, faults, read_report
from pytest_phase5.load.plan import Plan
from pytest_phase5.load.plan_file import read_plan, write_plan
from pytest_phase5.load.progress import PROGRESS_FILE, Progress, ProgressReader
from pytest_phase5.load.self_check import Calibration, Load, calibrated, load_of

PLAN_FILE: Final = "plan.json"
ROWS_FILE: Final = "samples.jsonl"
REPORT_FILE: Final = "samples.json"
LOG_FILE: Final = "generator.log"
#: The drivers: programs with one contract, which the first of them describes.
GENERATOR: Final = "pytest_phase5.load.generator"
LOCUST: Final = "pytest_phase5.load.locust_driver"
#: Seconds between two looks at a run under way.
LOOK: Final = 0.2
#: Seconds for a stopped child to write its rows before it is killed.
GRACE: Final = 10.0
#: Environment by which coverage tools would enter the child and its timing.
_MEASURING: Final = ("COV_CORE_", "COVERAGE_PROCESS_")


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The measured samples in order, and whether they may be judged."""

    samples: tuple[Sample, ...]
    valid: bool
    invalid_reason: str
    started: str  #: UTC, ISO 8601
    complete: bool = True  #: False when it was stopped from outside, or died
    connections: int | None = None  #: opened over the run, where the driver can count them
    stopped_at: int | None = None  #: the block (step) that was the last, if not all were sent
    stop_reason: str = ""
    stopped_by: GaveWay | None = None  #: who gave way in it
    late: tuple[int, ...] = ()  #: steps in which the generator was late: they did not hold


def run_plan(
    plan: Plan,
    folder: Path,
    *,
    self_check: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> LoadResult:
    """Carry out a plan in a child process; its files stay in `folder`.

    Whatever goes wrong in the child makes the result invalid, with the reason; it never
    raises and never shortens the run silently. On Ctrl-C the child writes what there is
    before KeyboardInterrupt goes on; `read_run` then gives the incomplete result.

    Args:
        plan: what to do, and who does it (`plan.driver`).
        folder: made if missing; must not hold an earlier run.
        self_check: the smallest limit, in seconds, by which a time of this run is judged.
            The driver then first measures a server that is known, once per process and load;
            where it is off by more than 5 % of the limit, the plan is not carried out and the
            result is invalid. None: no time is judged.
        on_progress: called in this thread, about once a second while the run goes on.

    Raises:
        FileExistsError: when the folder holds an earlier run.
    """
    _own_folder(folder)
    fault = _self_fault(plan, self_check) if self_check is not None else None
    if fault is not None:
        now = datetime.now(UTC).isoformat()
        return LoadResult((), valid=False, invalid_reason=fault, started=now, complete=False)
    return _carry_out(plan, folder, on_progress)


def _own_folder(folder: Path) -> None:
    if (folder / PLAN_FILE).exists():
        raise FileExistsError(f"{folder / PLAN_FILE}: each run needs a folder of its own")
    folder.mkdir(parents=True, exist_ok=True)


def _carry_out(
    plan: Plan, folder: Path, on_progress: Callable[[Progress], None] | None = None
) -> LoadResult:
    write_plan(folder / PLAN_FILE, plan)
    started = datetime.now(UTC).isoformat()
    watch = _watcher(folder, on_progress)
    status = _run_child(plan, folder, watch)
    watch()
    return _result(plan, folder, status, started)


def _self_fault(plan: Plan, limit: float) -> str | None:
    return _calibrated(load_of(plan), limit).fault(limit)


@cache
def _calibrated(load: Load, limit: float) -> Calibration:
    """A self-check: once for the same load and limit, so that a suite does not pay twice."""

    def carry_out(plan: Plan, folder: Path) -> tuple[tuple[Sample, ...], str]:
        _own_folder(folder)
        result = _carry_out(plan, folder)
        return result.samples, result.invalid_reason

    return calibrated(load, limit, carry_out)


def read_run(folder: Path) -> LoadResult:
    """The result of a run that is over, from its folder, also of one that was interrupted.

    Raises:
        ValueError: for a folder without a readable plan.
        OSError: as above.
    """
    return _result(read_plan(folder / PLAN_FILE), folder, 0, "")


def _watcher(folder: Path, on_progress: Callable[[Progress], None] | None) -> Callable[[], None]:
    reader = ProgressReader(folder / PROGRESS_FILE)

    def watch() -> None:
        for progress in reader.new():
            if on_progress is not None:
                on_progress(progress)

    return watch


def start_child(module: str, folder: Path) -> "subprocess.Popen[bytes]":
    """Start a driver on the plan in a folder; the end of its standard input stops it."""
    command = [sys.executable, "-P", "-m", module]
    with (folder / LOG_FILE).open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - our own module, and two paths of ours
            [*command, str(folder / PLAN_FILE), str(folder / ROWS_FILE)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={k: v for k, v in os.environ.items() if not k.startswith(_MEASURING)},
            start_new_session=True,  # Ctrl-C reaches it through us, once
        )


def _run_child(plan: Plan, folder: Path, watch: Callable[[], None]) -> int:
    """Run the plan's driver to its end; its exit status, negative for a signal."""
    child = start_child(LOCUST if plan.driver == "locust" else GENERATOR, folder)
    try:
        return _wait(child, plan.longest, watch)
    finally:
        # Also on Ctrl-C: the end of its standard input stops it.
        if child.stdin is not None:
            child.stdin.close()
        _reap(child)


def _wait(child: "subprocess.Popen[bytes]", longest: float, watch: Callable[[], None]) -> int:
    deadline = time.monotonic() + longest
    while (left := deadline - time.monotonic()) > 0:
        try:
            return child.wait(min(LOOK, left))
        except subprocess.TimeoutExpired:
            watch()
    child.terminate()
    return _reap(child)


def _reap(child: "subprocess.Popen[bytes]") -> int:
    try:
        return child.wait(GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def _result(plan: Plan, folder: Path, status: int, started: str) -> LoadResult:
    try:
        samples = tuple(read_rows(folder / ROWS_FILE))
        report = read_report(folder / REPORT_FILE)
    except (OSError, ValueError) as error:
        said = _last_line(folder / LOG_FILE) or str(error)
        reason = f"generator ended with status {status} and left no whole run: {said}"
        return LoadResult((), valid=False, invalid_reason=reason, started=started, complete=False)
    reasons = list(faults(plan, samples, report))
    if status and report.complete:
        reasons.insert(0, f"generator ended with status {status}")
    return LoadResult(
        samples,
        valid=not reasons,
        invalid_reason="; ".join(reasons),
        started=report.started,
        complete=report.complete,
        connections=report.connections,
        stopped_at=report.stopped_at,
        stop_reason=report.stop_reason,
        stopped_by=report.stopped_by,
        late=report.late,
    )


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1] if lines else ""
