"""Replicas as actors of a Ray cluster (extra `[ray]`), so that a pool spans machines.

Ray places and starts the processes and tells of their end. Frames do not go through Ray:
each actor dials back over TLS, as a process of `runtime.backend: tls` does.
"""

import asyncio
import logging
import os
import secrets
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from textwrap import shorten
from typing import Any, Final

from engine import __version__
from engine.config import ConfigError
from engine.runtime.actor import Host
from engine.runtime.child import Blame, Child
from engine.runtime.interface import RuntimeStartError
from engine.runtime.link import Link, OnFrame
from engine.runtime.lobby import Lobby, open_lobby
from engine.runtime.messages import Stop, ToRuntime
from engine.runtime.work import Work

try:
    import ray
except ImportError as error:
    raise ConfigError(
        "runtime.backend ray needs Ray, which is not installed: "
        f"pip install 'pytest-phase5[engine,ray]' ({error})"
    ) from error

log = logging.getLogger("engine.runtime.ray")

#: What `runtime.ray_address` says for a Ray of our own on this machine.
LOCAL: Final = "local"

#: From asking Ray for an actor to its call. Ray starts a process in seconds; a cluster that
#: has to add a machine first takes minutes.
PLACE_SECONDS: Final = 300.0

#: How long an actor may take to end after `Stop`, and to be gone after it was killed.
_STOP_SECONDS: Final = 3.0
_KILL_SECONDS: Final = 10.0

#: The least that Ray accepts; nothing of ours goes through its object store.
_STORE_BYTES: Final = 80 * 1024 * 1024

#: Characters of a message of Ray's that are told.
_MESSAGE_WIDTH: Final = 300


class RayBackend:
    """Actors of a cluster that dial in over TLS.

    A Ray that this process has joined already is used and left as it is.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._lobby: Lobby | None = None
        #: While it lives we are in a cluster. Ray's own processes end with the thread that
        #: started them (Linux), and outside the main thread Ray leaves our signals alone.
        self._thread: ThreadPoolExecutor | None = None

    async def open(self) -> None:
        """Join the cluster, or start one on this machine; then listen."""
        if not ray.is_initialized():
            self._thread = ThreadPoolExecutor(1, "ray")
            address = self._work.config.ray_address
            await asyncio.get_running_loop().run_in_executor(self._thread, join, address)
            _retake_sigterm()
        self._lobby = open_lobby(self._work.config)

    async def spawn(self, epoch: int, on_frame: OnFrame) -> Child:
        """Have Ray start an actor, and wait for its call.

        Raises:
            RuntimeError: the backend is not open.
            RuntimeStartError: Ray did not start the actor, or it did not dial in.
        """
        if self._lobby is None:
            raise RuntimeError("the backend is not open")
        actor = self._make_actor()
        try:
            async with asyncio.timeout(PLACE_SECONDS):
                return await self._invite(actor, epoch, on_frame, self._lobby)
        except BaseException as error:
            ray.kill(actor)
            if isinstance(error, TimeoutError | ray.exceptions.RayError):
                raise RuntimeStartError(_start_failure(error)) from error
            raise

    async def close(self) -> None:
        """Stop listening, and leave or end the cluster."""
        if self._lobby is not None:
            await self._lobby.close()
        if self._thread is not None:
            thread, self._thread = self._thread, None
            await asyncio.get_running_loop().run_in_executor(thread, ray.shutdown)
            thread.shutdown()

    def _make_actor(self) -> Any:
        variables = changed(self._work.environment(), os.environ)
        return (
            ray.remote(Host)
            .options(
                # On one machine a replica is not held back by a count of processors; in a
                # cluster the count is what spreads them.
                num_cpus=0 if self._work.config.ray_address == LOCAL else 1,
                scheduling_strategy="SPREAD",
                max_restarts=0,  # the supervisor restarts, with replay
                max_task_retries=0,
                runtime_env={"env_vars": variables} if variables else None,
            )
            .remote()
        )

    async def _invite(self, actor: Any, epoch: int, on_frame: OnFrame, lobby: Lobby) -> Child:
        pid, host, version = await actor.about.remote()
        if version.split()[0] != __version__:
            raise RuntimeStartError(f"{host} has engine {version}, here it is {__version__}")
        with lobby.expect(on_frame) as guest:
            run = actor.run.remote(guest.invitation, self._work.options(epoch))
            child = RayChild(actor, pid, host, asyncio.wrap_future(run.future()), guest.link)
            either: set[asyncio.Future[Any]] = {guest.arrived, child.over}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if guest.arrived.done():
                return child
        raise RuntimeStartError(f"the runtime on {host} did not dial in: {child.tail()}")


class RayChild:
    """A `Child` that is an actor.

    Args:
        actor: its handle.
        pid: of its process, on its machine.
        host: the machine.
        over: the actor's one long call: done when it has ended, in whatever way.
        link: the connection.
    """

    def __init__(
        self, actor: Any, pid: int, host: str, over: asyncio.Future[str], link: Link
    ) -> None:
        self.pid = pid
        self.ended = link.ended
        self.over = over
        over.add_done_callback(self._on_over)
        self._actor = actor
        self._host = host
        self._link = link

    def _on_over(self, over: asyncio.Future[str]) -> None:
        """The actor serves no more: its connection is over, also where it still stands."""
        if not over.cancelled():
            over.exception()  # heard; `tail` tells it
        if not self.ended.done():
            self.ended.set_result("the actor ended")
        self._link.abort()

    def send(self, message: ToRuntime) -> None:
        """Queue a message; dropped when the connection is over."""
        self._link.send(message)

    def tail(self) -> str:
        """What the actor's call returned, or what Ray knows of its end, in one line."""
        if not self.over.done():
            return f"still running on {self._host}"
        error = self.over.exception()
        return f"on {self._host}: {_one_line(error) if error else self.over.result()}"

    async def blame(self) -> Blame:
        """Why it ended, as far as Ray knows, which tells no signal from a crash.

        So a stream may have been the cause: a suspicion harms none, only what fails alone is
        convicted.
        """
        await asyncio.wait({self.over}, timeout=_KILL_SECONDS if self.ended.done() else 0)
        if not self.over.done() or self.over.cancelled():
            return Blame.ITSELF
        out_of_memory = isinstance(self.over.exception(), ray.exceptions.OutOfMemoryError)
        return Blame.MEMORY if out_of_memory else Blame.ITSELF

    async def kill(self) -> None:
        """Have Ray kill the actor, and wait until Ray says that it is gone.

        Whatever becomes of it, it is cut off first: what it still says reaches nobody, and
        it ends itself when it notices.
        """
        self._link.abort()
        ray.kill(self._actor)
        done, _ = await asyncio.wait({self.over}, timeout=_KILL_SECONDS)
        if not done:
            log.warning(
                "actor %d on %s is not known to be gone after %g s",
                self.pid,
                self._host,
                _KILL_SECONDS,
            )

    async def stop(self) -> None:
        """Ask with `Stop`, then kill."""
        self.send(Stop())
        await asyncio.wait({self.over}, timeout=_STOP_SECONDS)
        await self.kill()


def changed(environment: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """What a runtime process needs beside what every process here has: no secret of ours."""
    return {name: value for name, value in environment.items() if own.get(name) != value}


def join(address: str) -> None:
    """Join a cluster, or start one. Blocks for seconds.

    Raises:
        RuntimeStartError: there is none, or it does not start.
    """
    options: dict[str, Any] = {}
    if address == LOCAL:
        # A secret of its own: else Ray would write one into the home folder.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options = {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise RuntimeStartError(f"runtime.ray_address {address}: {_one_line(error)}") from error


def _retake_sigterm() -> None:
    """Ray puts a handler below Python's that prints its stack at SIGTERM: ours is not a crash."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        signal.siginterrupt(signal.SIGTERM, False)  # noqa: FBT003  # as the event loop sets it


def _start_failure(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"Ray did not start an actor within {PLACE_SECONDS:g} s: no machine has room for it"
    return f"Ray did not start an actor: {_one_line(error)}"


def _one_line(error: BaseException) -> str:
    """Ray's messages are pages; their beginning says what happened."""
    text = shorten(str(error), _MESSAGE_WIDTH, placeholder=" ...")
    return text or type(error).__name__
