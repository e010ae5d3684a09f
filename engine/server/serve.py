"""`phase5 serve`: from options to an engine that answers, and down again in good order.

Light on imports at the top: the model's process is started first and loads while the rest
of the front end is imported.
"""

import asyncio
import hashlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop

from engine.config import ConfigError
from engine.runtime.backends import make_pool
from engine.runtime.interface import Runtime, RuntimeStartError
from engine.runtime.models import ModelError
from engine.server import logs
from engine.server.lives import Life
from engine.server.options import Plan, ServeOptions, UsageError, resolve
from engine.server.sockets import ListenError, bind
from engine.server.state import EngineState, NoState, claim

if TYPE_CHECKING:
    from engine.server.engine import Engine

log = logging.getLogger("engine.server")

#: After the drain's deadline the streams have this long to send their error event.
_LAST_WORDS_SECONDS: Final = 1.0

OK, FAILED, USAGE = 0, 1, 2

__all__ = ["ServeOptions", "run", "serve"]


def run(options: ServeOptions) -> int:
    """Serve until told to stop. Blocks; must run in the main thread.

    Returns:
        The exit code: 0 after an orderly stop, 2 for options or configuration that cannot
        serve, 1 for any other failure. Every failure is told in one line on standard error.
    """
    handler, starting = logs.configure(), _Starting()
    handler.addFilter(starting)
    try:
        plan = resolve(options)
        logs.set_format(handler, plan.settings.config.server.log_format)
        # A tenth less CPU for each token than with asyncio's own loop, at 32 and 100 streams.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve_logged(plan, starting))
    except (ConfigError, ModelError, UsageError, ListenError) as error:
        return _failed(error, USAGE)
    except RuntimeStartError as error:
        return _failed(error, FAILED)


async def serve(options: ServeOptions) -> int:
    """As `run`, inside a running event loop; failures are raised.

    Raises:
        ConfigError, ModelError, UsageError, ListenError: it cannot serve as asked.
        RuntimeStartError: the model's process does not start.
    """
    return await _serve(resolve(options), _Starting())


class _Starting(logging.Filter):
    """While the engine starts, a failure is told once, by the exception that ends it."""

    active = True

    def filter(self, record: logging.LogRecord) -> bool:
        """Hold back the runtime's own word."""
        return not (self.active and record.name.startswith("engine.runtime"))


def _failed(error: Exception, code: int) -> int:
    sys.stderr.write(f"phase5 serve: {error}\n")
    return code


async def _serve_logged(plan: Plan, starting: _Starting) -> int:
    asyncio.get_running_loop().set_exception_handler(logs.loop_fault)
    return await _serve(plan, starting)


async def _serve(plan: Plan, starting: _Starting) -> int:
    stop = _StopSignals()
    config = plan.settings.config
    prefix_bytes = config.ttft_pipeline.prefix_bytes
    runtime = make_pool(plan.model, config.runtime, prefix_bytes, plan.draft)
    sock = bind(plan.host, plan.port)
    begun = asyncio.create_task(runtime.start())
    front = None
    state: EngineState | None = None
    try:
        state = await asyncio.to_thread(_remembered, plan, sock.getsockname()[1])
        engine = await asyncio.to_thread(_make_engine, plan, runtime, state)
        life = Life.of(plan.settings, state.id)
        engine.metrics.unclean_starts.inc(life.unclean)
        front = _Front(engine, plan, sock)
        await front.open_second()
        if not await stop.unless(begun):
            return OK
        starting.active = False
        await asyncio.to_thread(life.begin)
        front.announce()
        stop.on_hangup(front.reload)
        if await stop.unless(asyncio.create_task(front.broken())):
            return FAILED
        await front.drain()
        await asyncio.to_thread(life.end)
        return OK
    finally:
        begun.cancel()
        with suppress(asyncio.CancelledError, RuntimeStartError):
            await begun
        if front is None:
            sock.close()
        else:
            await front.stop()
        if state is not None:
            state.close()
        await runtime.stop()


class _StopSignals:
    """SIGTERM and SIGINT: the first asks, the second ends at once."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._arrived)
        self.on_hangup(lambda: None)  # nothing to reload yet, and no reason to die

    async def unless(self, task: asyncio.Task[None]) -> bool:
        """Wait for a task. False when a stop was asked for; the task is then cancelled.

        Also when the task has failed by then: Ctrl-C reaches a starting runtime as well, and
        its end is no failure but what was asked for.
        """
        waiter = asyncio.create_task(self.requested.wait())
        await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        if self.requested.is_set():
            task.cancel()
            return False
        task.result()
        return True

    def on_hangup(self, call: Callable[[], None]) -> None:
        """Call on SIGHUP."""
        self._loop.add_signal_handler(signal.SIGHUP, call)

    def _arrived(self) -> None:
        if self.requested.is_set():
            # The model's process sees our end and follows.
            os._exit(FAILED)
        self.requested.set()


class _Front:
    """Both ports and the engine's own tasks."""

    def __init__(self, engine: "Engine", plan: Plan, sock: socket.socket) -> None:
        from engine.server.app import create_app
        from engine.server.listeners import Listener, SecondPort, Tls

        app = create_app(engine, plan.keys)
        server = plan.settings.config.server
        tls = plan.tls and Tls(*plan.tls, server.tls_min_version, plan.client_ca)
        self._engine = engine
        self._second = SecondPort(
            *(app, engine.ports, (plan.host, plan.h2_port), tls),
            closing=engine.connections.told_to_go,
        )
        self._first = Listener(app, sock, host=plan.host)
        self._tasks = [
            asyncio.create_task(engine.tick(), name="the limit's clock"),
            asyncio.create_task(engine.watch_slos(), name="the SLO watch"),
            asyncio.create_task(engine.watch_memory(), name="the memory watch"),
            asyncio.create_task(engine.reloads.watch(), name="the configuration watch"),
            asyncio.create_task(engine.rollout.watch(engine), name="the lease watch"),
        ]
        self._reloads: set[asyncio.Task[None]] = set()
        engine.ports.http = self._first.url
        engine.http2_port = self._second

    async def open_second(self) -> None:
        """Open the second port, if any stream may be told of it."""
        from engine.server.features import wants_http2

        if wants_http2(self._engine.features.states):
            await self._second.open()

    def announce(self) -> None:
        """Say on standard output where the engine answers."""
        ports = self._engine.ports
        sys.stdout.write(f"ready {ports.http}\n")
        if ports.http2 is not None:
            sys.stdout.write(f"ready-h2 {ports.http2}\n")
        sys.stdout.flush()
        log.info("serving %s on %s", self._engine.model.name, ports.http)
        self._engine.memory.announce()

    def reload(self) -> None:
        """SIGHUP: read the configuration again; what cannot serve changes nothing."""
        task = asyncio.create_task(self._engine.reloads.attempt("signal"), name="SIGHUP")
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def broken(self) -> None:
        """Wait until a part ends that must not end: an engine without it only seems to serve."""
        parts = {*self._tasks, self._first.task}
        done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            fault = None if task.cancelled() else task.exception()
            log.error("%s ended by itself: %r", task.get_name(), fault)

    async def drain(self) -> None:
        """Let live streams finish; end those that outlive the deadline with an error event."""
        seconds = self._engine.settings.config.server.drain_seconds
        log.info("stopping: streams have %g s to finish", seconds)
        if not await self._engine.drain(seconds):
            self._engine.abort()
            await self._engine.drain(_LAST_WORDS_SECONDS)

    async def stop(self) -> None:
        """Close both ports."""
        for task in (*self._tasks, *self._reloads):
            task.cancel()
        self._second.close()
        self._first.close()
        listeners = [self._first, *self._second.ending()]
        for listener in listeners:
            if not await listener.closed():
                log.warning("%s: connections outlived the stop", listener.url)


def _remembered(plan: Plan, port: int) -> EngineState:
    """Who this engine is, and what it must not forget. `--flags` stands above all of it."""
    path = plan.settings.path
    if plan.settings.forced is None:
        return claim(path, port)
    who = hashlib.blake2b(f"{path.resolve()}:{port}".encode(), digest_size=8)
    return NoState(who.hexdigest())


def _make_engine(plan: Plan, runtime: Runtime, state: EngineState) -> "Engine":
    """Import and build the front end, in a thread beside the starting runtime."""
    from engine.server import app, listeners  # noqa: F401 - imported here to save time later
    from engine.server.engine import Engine
    from engine.server.text import TextCodec

    try:
        codec = TextCodec(plan.model.path)
    except Exception as error:  # the tokenizer's library raises nothing narrower
        raise ModelError(
            f"model {plan.model.name}: its tokenizer cannot be read: {error}"
        ) from error
    return Engine(
        settings=plan.settings,
        model=plan.model,
        runtime=runtime,
        codec=codec,
        commit=_commit(),
        state=state,
    )


def _commit() -> str:
    """The build: as told by `PHASE5_COMMIT`, else HEAD of the checkout around us."""
    if told := os.environ.get("PHASE5_COMMIT"):
        return told
    root = Path(__file__).resolve().parents[2]
    # A package inside somebody's project must not pass their commit off as ours.
    if not (root / ".git").exists():
        return "unknown"
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(  # noqa: S603 - our own argument list, no shell
            command, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        log.warning("the commit is unknown: %s", error)
        return "unknown"
    return answer.stdout.strip()
