"""Where the processes of a pool run: `runtime.backend`."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from engine.config import RuntimeConfig
from engine.runtime.child import WORKER, Child, Process, launch
from engine.runtime.interface import RuntimeStartError
from engine.runtime.link import OnFrame
from engine.runtime.lobby import Lobby, open_lobby
from engine.runtime.members import Ground
from engine.runtime.models import ModelFiles
from engine.runtime.pool import Pool
from engine.runtime.supervisor import Supervisor
from engine.runtime.work import Work

#: From the start of a process on this machine to its call: Python starts in a tenth of a
#: second, and an overloaded machine is not to be taken for a broken one.
DIAL_SECONDS: Final = 60.0


class Backend(Ground, Protocol):
    """Starts processes."""

    async def spawn(self, epoch: int, on_frame: OnFrame) -> Child:
        """Start a process of an epoch.

        Raises:
            RuntimeStartError: it did not come so far that it can be talked to.
        """


@dataclass(frozen=True, slots=True)
class LocalBackend:
    """Child processes over socket pairs."""

    work: Work

    async def open(self) -> None:
        """Nothing is needed."""

    async def spawn(self, epoch: int, on_frame: OnFrame) -> Child:
        """See `Backend.spawn`."""
        work = self.work
        return await Process.start(work.options(epoch), work.environment(), on_frame)

    async def close(self) -> None:
        """Nothing was made."""


class TlsBackend:
    """Child processes that dial in over TLS: what Ray does, without Ray."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._lobby: Lobby | None = None

    async def open(self) -> None:
        """Begin to listen."""
        self._lobby = open_lobby(self._work.config)

    async def spawn(self, epoch: int, on_frame: OnFrame) -> Child:
        """See `Backend.spawn`.

        Raises:
            RuntimeError: the backend is not open.
            RuntimeStartError: the process did not dial in.
        """
        if self._lobby is None:
            raise RuntimeError("the backend is not open")
        options, environment = self._work.options(epoch), self._work.environment()
        with self._lobby.expect(on_frame) as guest:
            command = [*WORKER, *options]
            invited = {**environment, **guest.invitation.environment()}
            process = Process(launch(command, invited), guest.link)
            try:
                await asyncio.wait(
                    {guest.arrived, process.output},
                    timeout=DIAL_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            except asyncio.CancelledError:
                await process.kill()
                raise
            if guest.arrived.done():
                return process
        await process.kill()
        raise RuntimeStartError(f"the runtime did not dial in: {process.tail()}")

    async def close(self) -> None:
        """Stop listening."""
        if self._lobby is not None:
            await self._lobby.close()


def make_backend(work: Work) -> Backend:
    """The backend that the configuration names.

    Raises:
        ConfigError: it needs an extra that is not installed.
    """
    match work.config.backend:
        case "local":
            return LocalBackend(work)
        case "tls":
            return TlsBackend(work)
        case "ray":
            from engine.runtime.ray_backend import RayBackend

            return RayBackend(work)


def make_pool(
    model: ModelFiles, config: RuntimeConfig, prefix_bytes: int, draft: ModelFiles | None = None
) -> Pool:
    """The runtime that `phase5 serve` serves with.

    Raises:
        ConfigError: the backend needs an extra that is not installed.
    """
    backend = make_backend(Work(model=model, config=config, prefix_bytes=prefix_bytes, draft=draft))

    def make(on_failed: Callable[[], None]) -> Supervisor:
        return Supervisor(backend.spawn, on_failed=on_failed)

    return Pool(make, config.replicas, backend)
