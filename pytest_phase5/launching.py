"""Engine processes: started on a leash, and stopped with a check.

A stop is checked: exit status 0, no process left, port closed. An engine that does not
start or stop clean is a failure of the test that used it, never a skip.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Final
from urllib.parse import urlsplit

from pytest_phase5.engines import EngineError
from pytest_phase5.markers import EngineSpec
from pytest_phase5.processes import Process, descendants, still_alive

#: Ends what it started when its own parent is gone; see `pytest_phase5.leash`.
LEASH: Final = (sys.executable, "-P", "-m", "pytest_phase5.leash")

#: What starts an engine unless the user names a command. `-P`: nothing from the working
#: folder may shadow our packages.
OWN_COMMAND: Final = (sys.executable, "-P", "-m", "pytest_phase5.cli", "serve")

#: How long an engine may take to drain and stop: the default of `server.drain_seconds`, and
#: some time to close.
STOP_SECONDS: Final = 40.0

#: How long the processes of a stopped engine may take to vanish from the process table.
_VANISH_SECONDS: Final = 2.0

#: How often a start or a stop is looked at.
_GLANCE_SECONDS: Final = 0.02


@dataclass(slots=True)
class EngineProcess:
    """An engine that we started, on a leash, and the lines that it printed."""

    spec: EngineSpec
    popen: subprocess.Popen[str]
    log: Path
    ready: dict[str, str] = field(default_factory=dict)  #: `ready` and `ready-h2` to URLs

    @property
    def pid(self) -> int:
        """The engine's own process, or its leash where that is not known."""
        children = [p.pid for p in descendants(self.popen.pid) if p.parent == self.popen.pid]
        return children[0] if children else self.popen.pid

    def require_alive(self, url: str) -> None:
        """See that it still runs and listens.

        Raises:
            EngineError: it does not; the message says how it ended.
        """
        if self.popen.poll() is None and _port_open(url):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(_VANISH_SECONDS)  # its leash may be about to end as well
        self.stop(url)
        raise EngineError(f"{self.name} no longer listened at {url}")

    def stop(self, url: str) -> None:
        """Stop it and check that it is gone.

        Raises:
            EngineError: it had died before, did not end in time, ended with another status
                than 0, left a process behind, or left its port open.
        """
        before = descendants(self.popen.pid)
        died = self.popen.poll()
        problems = [] if died is None else [f"had died: exit status {died}: {last_line(self.log)}"]
        self.popen.terminate()
        problems += self._await_end() if died is None else []
        self._close()
        problems += _left_behind(before)
        problems += _port_open(url)
        if problems:
            raise EngineError(f"{self.name} did not stop clean: {'; '.join(problems)}")

    def kill(self) -> None:
        """End it at once, with everything in its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        self._close()

    @property
    def name(self) -> str:
        """What it is, for messages."""
        model = f" and model {self.spec.model}" if self.spec.model else ""
        return f"engine with flags {self.spec.flag_set}{model}"

    def _await_end(self) -> list[str]:
        try:
            code = self.popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return [f"still ran {STOP_SECONDS:g} s after SIGTERM, killed"]
        return [f"exit status {code}: {last_line(self.log)}"] if code else []

    def _close(self) -> None:
        if self.popen.stdin:
            self.popen.stdin.close()


def start_process(
    command: tuple[str, ...],
    spec: EngineSpec,
    *,
    config: Path | None,
    log: Path,
    start_seconds: float,
) -> EngineProcess:
    """Start an engine and wait until it says that it is ready.

    Raises:
        EngineError: it cannot be started, ended, or was not ready in time; the message ends
            with its last line of output.
    """
    full = [*command, *_arguments(spec, config)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        popen = subprocess.Popen(  # noqa: S603 - a list from the user's own options, no shell
            [*LEASH, *full],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            # Not the live one: pytest writes to it for each test, and a thread may start us.
            env=dict(os.environ),
            # A Ctrl-C is for pytest, which then stops its engines in order.
            start_new_session=True,
        )
    process = EngineProcess(spec, popen, log)
    reader = Thread(target=_read_output, args=(process,), daemon=True)
    reader.start()
    try:
        _await_ready(process, reader, start_seconds)
    except BaseException:
        process.kill()
        raise
    return process


def last_line(log: Path) -> str:
    """The last line that an engine wrote, for messages."""
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"no output in {log}"


def _arguments(spec: EngineSpec, config: Path | None) -> list[str]:
    model = ["--model", spec.model] if spec.model else []
    file = ["--config", str(config)] if config else []
    # Without a flag set the configuration, and who delivers to the engine, say what serves.
    flags = ["--flags", spec.flag_set] if spec.flag_set else []
    return [*model, *flags, "--port", "0", *file]


def _read_output(process: EngineProcess) -> None:
    """Take the ready lines; keep reading, so that the engine never blocks on its output."""
    stdout = process.popen.stdout
    if stdout is None:
        raise AssertionError("started with a pipe")
    with stdout, process.log.open("a", encoding="utf-8") as log:
        for line in stdout:
            log.write(line)
            log.flush()
            word, _, url = line.strip().partition(" ")
            if word in {"ready", "ready-h2"}:
                process.ready[word] = url


def _await_ready(process: EngineProcess, reader: Thread, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while "ready" not in process.ready:
        if not reader.is_alive():
            code = process.popen.wait()
            raise EngineError(
                f"{process.name} did not start: exit status {code}: {last_line(process.log)}"
            )
        if time.monotonic() > deadline:
            raise EngineError(
                f"{process.name} was not ready after {seconds:g} s: {last_line(process.log)}"
            )
        reader.join(_GLANCE_SECONDS)


def _left_behind(before: frozenset[Process]) -> list[str]:
    deadline = time.monotonic() + _VANISH_SECONDS
    while (left := still_alive(before)) and time.monotonic() < deadline:
        time.sleep(_GLANCE_SECONDS)
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    return [f"left process {process.pid}, killed" for process in left]


def _port_open(url: str) -> list[str]:
    parts = urlsplit(url)
    with contextlib.suppress(OSError), socket.create_connection((parts.hostname, parts.port), 1):
        return [f"port {parts.port} still open"]
    return []


@contextlib.contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Run a block, then stop; a failure of the block is what shows when both fail."""
    try:
        yield
    except BaseException as error:
        try:
            stop()
        except EngineError as problem:
            error.add_note(str(problem))
        raise
    stop()
