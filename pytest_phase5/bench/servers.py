"""The servers that are measured: `mlx_lm.server`, and engines of ours, each in its processes.

All of them run from the first round to the last; one at a time is asked. All compute with the
same BLAS and the same number of its threads. A model that is worth several threads is served by
as many processes of ours with one each: the peer can only be one process.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import psutil

from engine.runtime.blas import THREADS_VARIABLE
from engine.runtime.child import worker_environment
from engine.runtime.models import ModelFiles
from pytest_phase5.bench.arms import DECODE_CONCURRENCY, OFF, ON, PEER, PEER_WIDE
from pytest_phase5.engines import EngineError
from pytest_phase5.launching import LEASH, last_line
from pytest_phase5.load.subjects import started_engine

#: What a peer calls the model that it was started with.
DEFAULT_MODEL: Final = "default_model"
#: Seconds that a peer may take to answer for the first time.
START_SECONDS: Final = 120.0
#: A model whose first token takes longer than the 550 ms of the packaged configuration would have
#: most of its requests shed, which is right in service and no comparison.
_PATIENT: Final = "governor: {target_ttft_ms: 60000}\nqos: {remediation: {dry_run: true}}\n"
#: Seconds between two looks at one that starts, and for one to end after SIGTERM.
_LOOK: Final = 0.1
_STOP_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server: where it answers, and the processes that are it."""

    arm: str
    url: str
    model: str  #: what requests call its model
    pid: int
    options: str  #: how it was started, for reports
    environment: Mapping[str, str] = field(default_factory=dict)  #: of the process of the model

    def processes(self) -> list[psutil.Process]:
        """Its first process and all below it."""
        first = psutil.Process(self.pid)
        return [first, *first.children(recursive=True)]


@contextmanager
def started(
    arm: str, model: ModelFiles, folder: Path, *, streams: int, patient: bool = False
) -> Iterator[Server]:
    """The server of an arm, once it answers; ended with the block.

    Args:
        arm: one of `arms.ARMS`.
        model: what it serves.
        folder: where its log goes.
        streams: at once, at most: what the wide peer is told to decode together.
        patient: an engine of ours sheds nobody whose first token would be late.

    Raises:
        EngineError: it does not start, or an engine does not stop as it must.
    """
    if arm in {OFF, ON}:
        flags = "all" if arm == ON else "off"
        config, replicas = None, 1
        if patient:
            config, replicas = folder / "patient.yaml", _threads(model)
            config.write_text(patience(model), encoding="utf-8")
        with engine(flags, model, folder, config, replicas) as server:
            yield server
        return
    wide = arm == PEER_WIDE
    with peer(model, folder, max(streams, DECODE_CONCURRENCY) if wide else None) as server:
        yield server


@contextmanager
def engine(
    flags: str, model: ModelFiles, folder: Path, config: Path | None = None, replicas: int = 1
) -> Iterator[Server]:
    """An engine of ours with these flags; its configuration is the packaged one unless given.

    `replicas` is what that configuration says.
    """
    log = folder / f"engine-{flags}.log"
    with started_engine(flags, model=model.name, config=config, log=log) as started_one:
        if started_one.pid is None:
            raise AssertionError("an engine that was started here has a process")
        yield Server(
            arm=ON if flags == "all" else OFF,
            url=started_one.url,
            model=started_one.identity.model,
            pid=started_one.pid,
            options=f"phase5 serve --flags {flags}",
            environment=preloaded(worker_environment(model, replicas)),
        )


@contextmanager
def peer(model: ModelFiles, folder: Path, decode: int | None) -> Iterator[Server]:
    """`mlx_lm.server` of the installed mlx-lm; `decode` streams in a batch, or its default."""
    arm = PEER if decode is None else PEER_WIDE
    options = [] if decode is None else ["--decode-concurrency", str(decode)]
    environment = {**worker_environment(model), "HF_HUB_OFFLINE": "1"}
    port, log = _free_port(), folder / f"{arm}.log"
    process = _launch([*options, "--model", str(model.path), "--port", str(port)], environment, log)
    url = f"http://127.0.0.1:{port}"
    try:
        _await_answer(process, url, log)
        (child,) = psutil.Process(process.pid).children()
        yield Server(
            arm=arm,
            url=url,
            model=DEFAULT_MODEL,
            pid=child.pid,
            options=" ".join(["mlx_lm.server", *options]),
            environment=preloaded(environment),
        )
    finally:
        _end(process)


def patience(model: ModelFiles) -> str:
    """A configuration of both of our arms in which no first token is too late."""
    return f"{_PATIENT}runtime: {{replicas: {_threads(model)}}}\n"


def _threads(model: ModelFiles) -> int:
    """What a single process would compute with."""
    return int(worker_environment(model).get(THREADS_VARIABLE, 1))


def preloaded(environment: Mapping[str, str]) -> dict[str, str]:
    """What of an environment decides how fast a model computes."""
    wanted = ("LD_PRELOAD", THREADS_VARIABLE)
    return {name: environment[name] for name in wanted if name in environment}


def _launch(
    options: list[str], environment: Mapping[str, str], log: Path
) -> "subprocess.Popen[bytes]":
    """Start it on a leash, in a session of its own; a log of each request costs time: warnings."""
    command = [sys.executable, "-P", "-m", "mlx_lm", "server", "--log-level", "WARNING"]
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - the peer's own command line, and our numbers
            [*LEASH, *command, *options],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=dict(environment),
            start_new_session=True,
        )


def _await_answer(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    """Until it has generated a token: it listens before its model is there."""
    deadline = time.monotonic() + START_SECONDS
    body = {"model": DEFAULT_MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "a"}]}
    with httpx.Client(timeout=START_SECONDS, trust_env=False) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise EngineError(
                    f"mlx_lm.server ended with status {process.returncode}: {last_line(log)}"
                )
            with contextlib.suppress(httpx.ConnectError):
                client.post(f"{url}/v1/chat/completions", json=body).raise_for_status()
                return
            time.sleep(_LOOK)
    raise EngineError(f"mlx_lm.server did not answer in {START_SECONDS:g} s: {last_line(log)}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask, then insist; nothing of its session is left."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
