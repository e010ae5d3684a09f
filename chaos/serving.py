"""A Toxiproxy server of our own: on a free port, and gone with us, however we go.

It runs on the leash that whoever starts it brings: a program that ends what it started when
its own standard input or its parent is gone. A server that somebody else runs is swept
instead: a process that outlives us for that long deletes what we made there.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from chaos.errors import FaultError
from chaos.toxiproxy import Toxiproxy, ToxiproxyError

#: Names a server that runs already.
URL_VARIABLE: Final = "TOXIPROXY_URL"

#: It is there in a twentieth of a second; a busy machine takes its time.
_START_SECONDS: Final = 15.0
_STOP_SECONDS: Final = 10.0
_GLANCE_SECONDS: Final = 0.02

#: Between asking for a free port and taking it, somebody else may.
_TRIES: Final = 3


@contextmanager
def serving(binary: Path, leash: Sequence[str], log: Path) -> Iterator[Toxiproxy]:
    """Run a server for the length of a block.

    Raises:
        ToxiproxyError: it does not start, or does not stop.
    """
    process, server = _start(binary, leash, log)
    try:
        yield server
    finally:
        stop_leashed(process, "Toxiproxy")


@contextmanager
def borrowed(url: str) -> Iterator[Toxiproxy]:
    """Use a server that somebody else runs; what we made there goes also when we are killed.

    Raises:
        ToxiproxyError: it does not answer.
    """
    server = Toxiproxy(url)
    server.version()
    prefix = f"phase5-{os.getpid()}-"
    command = [sys.executable, "-P", "-m", "chaos.sweeping", url, prefix]
    sweeper = subprocess.Popen(  # noqa: S603 - our own module
        command, stdin=subprocess.PIPE, env=dict(os.environ), start_new_session=True
    )
    try:
        yield server
    finally:
        if sweeper.stdin is not None:
            sweeper.stdin.close()
        sweeper.wait(_STOP_SECONDS)


def free_port() -> int:
    """A port of loopback that nobody has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def _start(
    binary: Path, leash: Sequence[str], log: Path
) -> tuple["subprocess.Popen[bytes]", Toxiproxy]:
    log.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_TRIES):
        port = free_port()
        command = [*leash, str(binary), "-host", "127.0.0.1", "-port", str(port)]
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - a list, no shell
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=dict(os.environ),
                start_new_session=True,  # a Ctrl-C is for us, who stop it in order
            )
        try:
            server = Toxiproxy(f"http://127.0.0.1:{port}")
            if _answers(process, server):
                return process, server
        except BaseException:
            stop_leashed(process, "Toxiproxy")
            raise
        stop_leashed(process, "Toxiproxy")
    raise ToxiproxyError(f"{binary} did not start: {_last_line(log)}")


def _answers(process: "subprocess.Popen[bytes]", server: Toxiproxy) -> bool:
    """Wait until it answers; False when it ended first, or another answers in its place."""
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None:
        with suppress(ToxiproxyError):
            server.version()
            return process.poll() is None and not server.proxies()
        if time.monotonic() > deadline:
            raise ToxiproxyError(f"{server.url} did not answer within {_START_SECONDS:g} s")
        time.sleep(_GLANCE_SECONDS)
    return False


def stop_leashed(process: "subprocess.Popen[bytes]", name: str) -> None:
    """End what runs on a leash, and wait for its end.

    Raises:
        FaultError: it had to be killed.
    """
    if process.stdin is not None:
        process.stdin.close()  # the leash lets nothing live behind that
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise FaultError(f"{name} still ran {_STOP_SECONDS:g} s after SIGTERM, killed") from None


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").splitlines()
    return lines[-1].strip() if lines else "without a word"
