"""The parent's side of a run: start the generator, wait with a bound, read back, check."""

import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gates.samples import Sample, read_rows
from pytest_phase5.load.checks import faults, read_report
from pytest_phase5.load.plan import Plan, write_plan

PLAN_FILE: Final = "plan.json"
ROWS_FILE: Final = "samples.jsonl"
REPORT_FILE: Final = "samples.json"
LOG_FILE: Final = "generator.log"
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


def run_plan(plan: Plan, folder: Path) -> LoadResult:
    """Carry out a plan in a child process; its files stay in `folder`.

    Whatever goes wrong in the child makes the result invalid, with the reason; it never
    raises and never shortens the run silently.

    Args:
        plan: what to do.
        folder: made if missing; must not hold an earlier run.

    Raises:
        FileExistsError: when the folder holds an earlier run.
    """
    if (folder / PLAN_FILE).exists():
        raise FileExistsError(f"{folder / PLAN_FILE}: each run needs a folder of its own")
    folder.mkdir(parents=True, exist_ok=True)
    write_plan(folder / PLAN_FILE, plan)
    started = datetime.now(UTC).isoformat()
    status = _run_child(folder, plan.longest)
    return _result(plan, folder, status, started)


def _run_child(folder: Path, longest: float) -> int:
    """Run the generator to its end; its exit status, negative for a signal."""
    command = [sys.executable, "-P", "-m", "pytest_phase5.load.generator"]
    with (folder / LOG_FILE).open("wb") as log:
        child = subprocess.Popen(  # noqa: S603 - our own module, and two paths of ours
            [*command, str(folder / PLAN_FILE), str(folder / ROWS_FILE)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={k: v for k, v in os.environ.items() if not k.startswith(_MEASURING)},
            start_new_session=True,  # Ctrl-C reaches it through us, once
        )
    try:
        return child.wait(longest)
    except subprocess.TimeoutExpired:
        child.terminate()
        return _reap(child)
    finally:
        # Also on Ctrl-C: the end of its standard input stops it.
        if child.stdin is not None:
            child.stdin.close()
        _reap(child)


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
        return LoadResult((), valid=False, invalid_reason=reason, started=started)
    reasons = list(faults(plan, samples, report))
    if status and report.complete:
        reasons.insert(0, f"generator ended with status {status}")
    return LoadResult(
        samples, valid=not reasons, invalid_reason="; ".join(reasons), started=report.started
    )


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1] if lines else ""
