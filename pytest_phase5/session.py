"""The gate around a session: what was planned, what happened to it, and the verdict.

pytest's exit status is not the gate. The session writes rows, the judge reads them, and the
verdict decides whether this session may end with 0.
"""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from gates.attempts import Attempt, Kind, append_attempt
from gates.earlier import EARLIER_FILE, text_for_next
from gates.evidence import ATTEMPTS_FILE, EVIDENCE_DIR, VERDICT_FILE
from gates.ledger_file import LEDGER_FOLDER
from pytest_phase5.doors import (
    Judged,
    config_path,
    judged_flags,
    policy_of,
    policy_path,
    required_by_add_ons,
)
from pytest_phase5.options import Settings
from pytest_phase5.outcomes import exit_status, never_zero, one_line, outcome_of, reason_of
from pytest_phase5.planning import begin_plan, mentions_us
from pytest_phase5.recording import LOGS_DIR, Run, new_run
from pytest_phase5.stash import PLAN, RUN, WORKER_INPUT, worker_input

if TYPE_CHECKING:
    from gates.verdict import Verdict

#: What a session writes into its folder; all of an earlier session's is removed first.
_OWN_FILES: Final = (
    *(VERDICT_FILE, ATTEMPTS_FILE, EARLIER_FILE),
    *("summary.md", "junit.xml", "report.html"),
)
_OWN_PATTERNS: Final = (
    (EVIDENCE_DIR, "*.jsonl"),
    (EVIDENCE_DIR, "given-*.xml"),
    (EVIDENCE_DIR, "*.partial"),
    (LOGS_DIR, "engine-*.log"),
    (LEDGER_FOLDER, "*.jsonl"),
)


def begin_gate(config: pytest.Config, settings: Settings) -> None:
    """Check what the gate rests on, and take part in the session.

    Raises:
        pytest.UsageError: configuration, policy or flags cannot serve.
    """
    judged = judged_flags(settings)
    policy_of(settings)
    run = config.stash[RUN] = new_run(config, settings.report)
    begin_plan(config)
    if worker_input(config) is None:
        config.pluginmanager.register(Gate(config, settings, judged, run), "phase5-gate")


@dataclass(slots=True, eq=False)  # pluggy keeps plugins in sets
class Gate:
    """The controller's part. The only writer of the attempts file and the verdict."""

    config: pytest.Config
    settings: Settings
    judged: Judged
    run: Run
    verdict: "Verdict | None" = None
    unmarked: int = 0
    outcomes: dict[str, str] = field(default_factory=dict)  #: the worst of each item, for JUnit
    report_problem: str = ""  #: why there is no report; the verdict stands all the same
    _mailbox: Path | None = None
    _opened: bool = False
    _waiting: list[Attempt] = field(default_factory=list)
    _attempts: Counter[str] = field(default_factory=Counter)

    # What runs, and where: pytest's header.

    def pytest_report_header(self) -> str:
        """Name what is judged, by which files, and where the report goes."""
        flags = ", ".join(self.judged.flags)
        left_out = "".join(f"; {text}" for text in self.judged.left_out)
        return (
            f"phase5: gate={self.settings.gate} judges {flags}{left_out}; "
            f"config={config_path(self.settings)}; policy={policy_path(self.settings)}; "
            f"report={self.run.folder}"
        )

    # Collection: in this process, or in the workers of pytest-xdist.

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> Generator[None, object, object]:
        """Collect in this process, then start the folder afresh; a usage error leaves it."""
        try:
            result = yield
        except pytest.UsageError:
            raise  # nothing was touched, and the old verdict is as true as it was
        except BaseException as error:
            self._open([], workers=1)
            self._finish(session, exit_status(session, error))
            never_zero(error)
            raise
        if not self.config.pluginmanager.has_plugin("dsession"):
            plan = self.config.stash[PLAN]
            self.unmarked = plan.unmarked
            self._open(plan.rows(session.items), workers=1)
        return result

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker which run it belongs to, and where to leave its plan."""
        if self._mailbox is None:
            self._mailbox = Path(tempfile.mkdtemp(prefix="phase5-"))
        node.workerinput[WORKER_INPUT] = {"run": self.run.id, "mailbox": str(self._mailbox)}

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any) -> None:
        """Take the plan of the first worker; all of them have the same."""
        if self._mailbox is None or self._opened:
            return
        letter = json.loads((self._mailbox / node.gateway.id).read_text(encoding="utf-8"))
        self.unmarked = letter["unmarked"]
        self._open(letter["rows"], workers=node.workerinput["workercount"])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that fails, or that skips itself and was about us, misses from the plan."""
        path = self.config.rootpath / report.nodeid.partition("::")[0]
        if report.failed or (report.skipped and mentions_us(path)):
            outcome = str(report.outcome)
            self._write(
                Kind.COLLECT_ERROR, item=report.nodeid, outcome=outcome, reason=reason_of(report)
            )

    # What happens to each item.

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write a row for each phase of each attempt, however it ended."""
        if hasattr(report, "context") and report.passed:
            return  # a subtest: its test reports as well, and stands for those that passed
        if report.when not in ("setup", "call", "teardown"):
            self._note_crash(report)
            return
        if report.when == "setup":
            self._attempts[report.nodeid] += 1
        outcome = outcome_of(report)
        self._note(report, outcome)
        self._write(
            Kind.PHASE,
            item=report.nodeid,
            attempt=max(self._attempts[report.nodeid], 1),
            phase=report.when,
            outcome=outcome,
            reason="" if outcome == "passed" else reason_of(report),
            worker=getattr(report, "worker_id", None),
        )

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Write a row for a worker that did not end by itself."""
        if error:
            self._write(Kind.WORKER_CRASH, worker=node.gateway.id, reason=one_line(str(error)))

    # The verdict: after the loop, before pytest takes its exit status from the failures.

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Judge after the loop, before pytest takes its status from the failures."""
        try:
            result = yield
        except pytest.UsageError:
            raise
        except BaseException as error:
            self._finish(session, exit_status(session, error))
            never_zero(error)
            raise
        self._finish(session, exit_status(session, None))
        return result

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the verdict."""
        if self.verdict is not None:
            from pytest_phase5.report import write_terminal

            write_terminal(terminalreporter, self.verdict, self.unmarked, self.run.folder)
            if self.report_problem:
                terminalreporter.write_line(self.report_problem, red=True, bold=True)

    def pytest_unconfigure(self) -> None:
        """Remove the folder in which workers left their plans."""
        if self._mailbox is not None:
            shutil.rmtree(self._mailbox, ignore_errors=True)

    def _open(self, rows: Iterable[dict[str, Any]], *, workers: int) -> None:
        """Start the folder afresh: nothing of an earlier session may look like this one's."""
        earlier = text_for_next(self.run.folder, policy_of(self.settings))
        clear_folder(self.run.folder)
        if earlier is not None:
            (self.run.folder / EARLIER_FILE).write_text(earlier, encoding="utf-8")
        self._opened = True
        waiting, self._waiting = self._waiting, []
        self._write(
            Kind.SESSION,
            stage=str(self.settings.gate),
            flags=self.judged.flags,
            criteria=required_by_add_ons(self.config),
            origin="off" if self.settings.from_off else "store",
            workers=workers,
        )
        for row in rows:
            self._write(Kind(row["kind"]), **_fields(row))
        for attempt in waiting:
            append_attempt(self._attempts_file, attempt)

    def _write(self, kind: Kind, **fields: Any) -> None:
        attempt = Attempt(kind=kind, run=self.run.id, **fields)
        if self._opened:
            append_attempt(self._attempts_file, attempt)
        else:
            self._waiting.append(attempt)

    @property
    def _attempts_file(self) -> Path:
        return self.run.folder / ATTEMPTS_FILE

    def _note_crash(self, report: pytest.TestReport) -> None:
        """pytest-xdist reports the item that a worker was at when it crashed."""
        worker = getattr(getattr(report, "node", None), "gateway", None)
        name = getattr(worker, "id", "unknown")
        self._write(Kind.WORKER_CRASH, item=report.nodeid, worker=name, reason=reason_of(report))
        self.outcomes[report.nodeid] = "crashed"

    def _note(self, report: pytest.TestReport, outcome: str) -> None:
        """An item is as good as its worst phase."""
        if report.when == "call" or outcome not in ("passed", "rerun"):
            known = self.outcomes.get(report.nodeid, "passed")
            self.outcomes[report.nodeid] = outcome if known == "passed" else known

    def _finish(self, session: pytest.Session, status: int) -> None:
        from pytest_phase5.judging import judge_session

        if self.verdict is not None:
            return
        if not self._opened:  # no worker got as far as a plan
            self._open([], workers=0)
        self._write(Kind.END, exit_status=status)
        self.verdict = judge_session(self.config, self.settings, self.judged, self.run)
        from pytest_phase5.report import write_junit

        write_junit(self.run.folder, self.verdict, self.outcomes)
        self.report_problem = _report(self.run.folder, self.settings)
        # An empty session keeps pytest's own status, 5.
        if self.verdict.verdict != "promote" and session.testscollected:
            session.testsfailed += 1


def clear_folder(folder: Path) -> None:
    """Make the folder, and remove what an earlier session wrote there, and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _OWN_FILES:
        (folder / name).unlink(missing_ok=True)
    for below, pattern in _OWN_PATTERNS:
        for path in (folder / below).glob(pattern):
            path.unlink()


def _report(folder: Path, settings: Settings) -> str:
    """Write the report. What goes wrong is said loudly and never touches the verdict."""
    from pytest_phase5.reporting.writing import write_report

    try:
        write_report(folder, policy_of(settings))
    except Exception as error:  # noqa: BLE001 - a page for people must not change a decision
        return f"phase5: the report was not written: {type(error).__name__}: {error}"
    return ""


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "item": row["item"],
        "criteria": tuple(row.get("criteria", ())),
        "reason": row.get("reason", ""),
    }
