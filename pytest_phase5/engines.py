"""Engines under test: how they start, what a test can ask of them, and how they stop.

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
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from gates.evidence import EngineIdentity
from pytest_phase5.markers import EngineSpec
from pytest_phase5.processes import descendants, still_alive

if TYPE_CHECKING:
    import httpx

#: What starts an engine unless the user names a command. `-P`: nothing from the working
#: folder may shadow our packages.
OWN_COMMAND: Final = (sys.executable, "-P", "-m", "pytest_phase5.cli", "serve")

#: How long an engine may take to drain and stop: the default of `server.drain_seconds`, and
#: some time to close.
STOP_SECONDS: Final = 40.0

#: How long one answer may take in `Engine.chat` and friends.
_ANSWER_SECONDS: Final = 120.0

#: How long the processes of a stopped engine may take to vanish from the process table.
_VANISH_SECONDS: Final = 2.0

#: What is not known about an engine that does not tell.
UNKNOWN: Final = "unknown"


class EngineError(Exception):
    """An engine that did not start, serve or stop as it must. One line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningEngine:
    """An engine that somebody else started: its URL, and how it is stopped, if at all."""

    url: str
    stop: Callable[[], None] | None = None
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer: its text, and what the engine said about it; what it did not say is None."""

    text: str
    flags: str | None = None  #: the `X-Phase5-Flags` of the stream
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A running engine.

    `url` and `h2_url` are the bases of its two ports; `pid` is None for an engine that was
    not started here; `log` is where its output goes.
    """

    url: str
    flag_set: str
    identity: EngineIdentity
    h2_url: str | None = None
    pid: int | None = None
    log: Path | None = None

    def status(self) -> dict[str, Any]:
        """The answer of `GET /v1/status`."""
        answer: dict[str, Any] = self._get("/v1/status").json()
        return answer

    def metrics(self) -> str:
        """The answer of `GET /metrics`, in the text format of Prometheus."""
        return self._get("/metrics").text

    def chat(self, text: str, **params: Any) -> str:
        """Ask one question and return the answer's text; see `ask`."""
        return self.ask(text, **params).text

    def ask(self, text: str, **params: Any) -> Answer:
        """Ask one question.

        `params` are further fields of the request, such as `max_tokens=16`.

        Raises:
            EngineError: when the answer is not a 200.
        """
        import httpx

        body = {
            "model": self.identity.model,
            "messages": [{"role": "user", "content": text}],
            **params,
        }
        try:
            url = f"{self.url}/v1/chat/completions"
            answer = httpx.post(url, json=body, timeout=_ANSWER_SECONDS, trust_env=False)
        except httpx.HTTPError as error:
            raise EngineError(f"{self.url} (flags {self.flag_set}): {error!r}") from error
        self._require_ok(answer, "POST /v1/chat/completions")
        document = answer.json()
        choice, usage = document["choices"][0], document.get("usage") or {}
        return Answer(
            text=choice["message"]["content"],
            flags=answer.headers.get("X-Phase5-Flags"),
            finish_reason=choice.get("finish_reason"),
            prompt_tokens=usage.get("prompt_tokens"),
            output_tokens=usage.get("completion_tokens"),
        )

    def _get(self, path: str) -> "httpx.Response":
        answer = _get(self.url + path)
        self._require_ok(answer, f"GET {path}")
        return answer

    def _require_ok(self, answer: "httpx.Response", what: str) -> None:
        if answer.status_code != 200:  # noqa: PLR2004 - HTTP's own word for it
            raise EngineError(
                f"{what} at {self.url} (flags {self.flag_set}) answered {answer.status_code}: "
                f"{answer.text[:200]}"
            )


def _get(url: str) -> "httpx.Response":
    import httpx

    try:
        # Our engines are local: a proxy of the environment has no business here.
        return httpx.get(url, timeout=_ANSWER_SECONDS, trust_env=False)
    except httpx.HTTPError as error:
        raise EngineError(f"GET {url}: {error!r}") from error


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
        raise EngineError(f"{self._name} no longer listened at {url}")

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
            raise EngineError(f"{self._name} did not stop clean: {'; '.join(problems)}")

    def kill(self) -> None:
        """End it at once, with everything in its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        self._close()

    @property
    def _name(self) -> str:
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
            [sys.executable, "-P", "-m", "pytest_phase5.leash", *full],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
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
    return [*model, "--flags", spec.flag_set, "--port", "0", *file]


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
                f"{process._name} did not start: exit status {code}: {last_line(process.log)}"  # noqa: SLF001 - same module
            )
        if time.monotonic() > deadline:
            raise EngineError(
                f"{process._name} was not ready after {seconds:g} s: {last_line(process.log)}"  # noqa: SLF001 - same module
            )
        reader.join(0.02)


def _left_behind(before: frozenset[Any]) -> list[str]:
    deadline = time.monotonic() + _VANISH_SECONDS
    while (left := still_alive(before)) and time.monotonic() < deadline:
        time.sleep(0.02)
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    return [f"left process {process.pid}, killed" for process in left]


def _port_open(url: str) -> list[str]:
    parts = urlsplit(url)
    with contextlib.suppress(OSError), socket.create_connection((parts.hostname, parts.port), 1):
        return [f"port {parts.port} still open"]
    return []


def identify(url: str, spec: EngineSpec, *, started_here: bool) -> tuple[EngineIdentity, str]:
    """Ask an engine who it is; returns that and the URL of its second port, or an empty text.

    An engine without `/v1/status` serves `off` and is otherwise unknown, which the judge
    does not accept for what needs a model or a build.

    Raises:
        EngineError: it serves other flags than the test asks for.
    """
    answer = _get(f"{url}/v1/status")
    status: dict[str, Any] = answer.json() if answer.status_code == 200 else {}  # noqa: PLR2004 - as above
    served = _served_flags(status) if status.get("flags") else "off"
    if served != spec.flag_set:
        how = "it was started with those flags" if started_here else "a fixed engine"
        raise EngineError(f"{url} serves flags {served}, asked for {spec.flag_set} ({how})")
    model = status.get("model", {})
    identity = EngineIdentity(
        flag_set=served,
        model=model.get("name", UNKNOWN),
        model_sha256=model.get("sha256", UNKNOWN),
        engine_version=status.get("engine_version", UNKNOWN),
        commit=status.get("commit", UNKNOWN),
        config_sha256=status.get("config_sha256", UNKNOWN),
    )
    return identity, _second_port(status)


def _served_flags(status: dict[str, Any]) -> str:
    """The flags at 100 %; one in between belongs to no flag set, so it shows as such."""
    from engine.core.flags import flag_set_name

    shares = {name: flag.get("effective", 0) for name, flag in status["flags"].items()}
    partial = [f"{name} at {share:g} %" for name, share in shares.items() if 0 < share < 100]  # noqa: PLR2004 - percent
    return ", ".join(partial) or flag_set_name(name for name, share in shares.items() if share)


def _second_port(status: dict[str, Any]) -> str:
    endpoints = status.get("endpoints")
    url = endpoints.get("h2") if isinstance(endpoints, dict) else None
    return url if isinstance(url, str) else ""


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
