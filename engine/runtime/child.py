"""One runtime process as the front end holds it: started, connected, and certainly ended."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from engine.config import RuntimeConfig
from engine.runtime import blas
from engine.runtime.interface import RuntimeStartError
from engine.runtime.link import Link, OnFrame
from engine.runtime.messages import Stop, ToRuntime
from engine.runtime.models import ModelFiles

log = logging.getLogger("engine.runtime.child")

#: How long the process may take to end after `Stop`, and then after SIGTERM.
_STOP_SECONDS: Final = 3.0
_TERM_SECONDS: Final = 1.0

#: Lines of the process's output that are kept to explain its end.
_TAIL_LINES: Final = 20

#: -P: the working directory may hold a package that is called engine as well.
WORKER: Final = (sys.executable, "-P", "-m", "engine.runtime.worker")

#: The process begins each line of its log with the level; what it prints otherwise is INFO.
_LEVELS: Final = logging.getLevelNamesMapping()

#: How long a process may take to be gone after its connection ended: the kernel writes back
#: what it held, some gigabytes at the most.
_DYING_SECONDS: Final = 2.0

#: Signals that an operator or the system sends; a request cannot make a process send them.
_FROM_OUTSIDE: Final = frozenset(
    {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
)


class Blame(StrEnum):
    """Where the cause of a process's end lies."""

    ITSELF = "by itself"
    MEMORY = "out of memory"
    OUTSIDE = "from outside"
    CORRUPT = "what it sent was wrong"
    PLANNED = "planned"

    @property
    def on_a_stream(self) -> bool:
        """Whether one of the streams may be the cause."""
        return self in (Blame.ITSELF, Blame.MEMORY)


class Child(Protocol):
    """What the supervisor needs of a process; fakes in tests implement it."""

    pid: int
    ended: asyncio.Future[str]  #: resolved once, with the reason, when the connection is over

    def send(self, message: ToRuntime) -> None:
        """Queue a message; dropped when the connection is over."""

    def tail(self) -> str:
        """The last lines of its output and how it ended, condensed to one line."""

    async def blame(self) -> Blame:
        """Why it ended, or why it is stuck; to be asked before `kill`."""

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""

    async def stop(self) -> None:
        """Ask, then insist: bounded by a few seconds. It is gone afterwards."""


#: Starts a process of an epoch; its frames go to the callback.
Spawn = Callable[[int, OnFrame], Awaitable[Child]]


class Process:
    """A `Child` that is a real process.

    The process dies with the thread that started it (Linux ties PDEATHSIG to the thread), so
    the event loop must run in a thread that lives as long as the runtime.
    """

    def __init__(self, process: subprocess.Popen[bytes], link: Link) -> None:
        self.pid = process.pid
        self.ended = link.ended
        self._process = process
        self._link = link
        self._oom_kills = _oom_kills()
        self._lines: deque[str] = deque(maxlen=_TAIL_LINES)
        #: Done when the process has closed its output, which it does when it ends.
        self.output = asyncio.create_task(self._read_output())

    @classmethod
    async def start(
        cls,
        options: Sequence[str],
        environment: Mapping[str, str],
        on_frame: OnFrame,
        worker: Sequence[str] = WORKER,
    ) -> "Process":
        """Start a process with these `worker_options`; it is not ready before its `Ready`."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            arguments = [f"--fd={theirs.fileno()}", *options]
            process = launch([*worker, *arguments], environment, pass_fds=[theirs.fileno()])
            link = Link(on_frame)
            loop = asyncio.get_running_loop()
            await loop.create_unix_connection(lambda: link, sock=ours.dup())
        return cls(process, link)

    def send(self, message: ToRuntime) -> None:
        """Queue a message; dropped when the connection is over."""
        self._link.send(message)

    def tail(self) -> str:
        """The last lines of its output and how it ended, condensed to one line."""
        return " | ".join([*self._lines, _ending(self._process.returncode)])

    async def blame(self) -> Blame:
        """Why it ended, or why it is stuck; to be asked before `kill`.

        A process that somebody stopped with SIGSTOP is stuck from outside; one that runs on
        without progress, or has closed its connection, is so by itself.
        """
        if not self.ended.done():
            return Blame.OUTSIDE if _is_stopped(self.pid) else Blame.ITSELF
        if not await asyncio.to_thread(self._exited_within, _DYING_SECONDS):
            return Blame.ITSELF
        if -self._process.returncode not in _FROM_OUTSIDE:
            return Blame.ITSELF
        return Blame.MEMORY if _oom_kills() > self._oom_kills else Blame.OUTSIDE

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._signal(signal.SIGKILL)
        await self._gone()

    async def stop(self) -> None:
        """Ask with `Stop`, then SIGTERM, then SIGKILL. It is gone afterwards."""
        self.send(Stop())
        for seconds, insist in ((_STOP_SECONDS, signal.SIGTERM), (_TERM_SECONDS, signal.SIGKILL)):
            if await asyncio.to_thread(self._exited_within, seconds):
                break
            log.warning(
                "runtime %d did not end in %g s: sending %s", self.pid, seconds, insist.name
            )
            self._signal(insist)
        await self._gone()

    def _exited_within(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    async def _gone(self) -> None:
        """Wait for the process, then for the rest of its output."""
        await asyncio.to_thread(self._process.wait)
        self._link.abort()
        await self.output

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    async def _read_output(self) -> None:
        """Pass the process's output on to our log, a line at a time."""
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101  # opened as a pipe above
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), stdout
        )
        try:
            while line := await reader.readline():
                text = line.decode(errors="replace").rstrip()
                self._lines.append(text)
                level = _LEVELS.get(text.partition(" ")[0], logging.INFO)
                log.log(level, "%s", text)
        finally:
            transport.close()


def launch(
    command: Sequence[str], environment: Mapping[str, str], pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a worker as a child of this process; what it prints comes by a pipe."""
    return subprocess.Popen(  # noqa: S603  # our own program
        [*command, f"--parent={os.getpid()}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=pass_fds,
        env=environment,
    )


def _is_stopped(pid: int) -> bool:
    """Whether a child was stopped by a signal; asking changes nothing."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13: the cause stays unknown
        return False
    flags = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, pid, flags) is not None


def _oom_kills(vmstat: Path = Path("/proc/vmstat")) -> int:
    """How many processes Linux has killed for lack of memory since it started; 0 elsewhere."""
    if not vmstat.is_file():
        return 0
    counts = dict(line.split() for line in vmstat.read_text().splitlines())
    return int(counts.get("oom_kill", 0))


def _ending(status: int | None) -> str:
    if status is None:
        return "still running"
    return f"exit status {status}" if status >= 0 else f"ended by {signal.Signals(-status).name}"


def worker_environment(model: ModelFiles, processes: int = 1) -> dict[str, str]:
    """The environment of a process that serves a model, one of several on this machine.

    Raises:
        RuntimeStartError: `PHASE5_BLAS` names something that is not there.
    """
    size = sum(file.stat().st_size for file in model.path.glob("*.safetensors"))
    try:
        return blas.child_environment(size, processes=processes)
    except blas.BlasError as error:
        raise RuntimeStartError(str(error)) from error


def worker_options(
    model: Path, config: RuntimeConfig, prefix_bytes: int, epoch: int, draft: Path | None = None
) -> list[str]:
    """What a process of an epoch serves, as arguments of `engine.runtime.worker`."""
    options = {
        "model": model,
        "epoch": epoch,
        "max-rows": config.max_rows,
        "prefill-chunk": config.prefill_chunk,
        "prefill-rows": config.prefill_rows,
        "prefix-bytes": prefix_bytes,
        "replicas": config.replicas,
        "draft-tokens": config.speculation.draft_tokens,
    }
    if draft is not None:
        options["draft-model"] = draft
    if config.kv_bytes is not None:
        options["kv-bytes"] = config.kv_bytes
    return [f"--{name}={value}" for name, value in options.items()]
