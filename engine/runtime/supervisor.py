"""Keeps one runtime process serving: starts it, routes its tokens, replaces it when it dies.

A stream outlives the process. The supervisor remembers what each live stream was asked and
what was emitted; after a death the old process is killed first, and every live stream goes
on in a new one behind its last token. Two checks keep the output exact: a frame counts only
from the current epoch, a token only at the next position of its stream.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from engine.config import RuntimeConfig
from engine.runtime import blas
from engine.runtime.child import Child, OnFrame, Process, worker_options
from engine.runtime.interface import Replica, ReplicaState, RuntimeStartError, StreamListener
from engine.runtime.messages import (
    Cancel,
    Evict,
    Fault,
    Faulted,
    FromRuntime,
    Pause,
    Prefill,
    Ready,
    Resume,
    Step,
    Submit,
    Token,
)
from engine.runtime.models import ModelFiles
from engine.runtime.restarts import Restarts

log = logging.getLogger("engine.runtime.supervisor")

#: Loading takes seconds for the built-in models, minutes for 30 billion parameters.
START_SECONDS: Final = 600.0

#: No token and no prefill chunk for this long, with streams live: the process is stuck. The
#: slowest step known, 512 prompt tokens of a 27 billion model, takes a few seconds.
STALL_SECONDS: Final = 30.0

Heard = TypeVar("Heard", Prefill, Token, str)

#: Starts a process of an epoch; its frames go to the callback.
Spawn = Callable[[int, OnFrame], Awaitable[Child]]


@dataclass(slots=True)
class _Stream:
    """A stream that has not ended: what was asked, and what came out so far."""

    request: Submit
    listener: StreamListener
    emitted: list[int] = field(default_factory=list)
    paused: bool = False
    placed: bool = False  #: the process of this epoch knows it

    def resumed(self) -> Submit:
        """The request that goes on behind the last token."""
        return msgspec.structs.replace(self.request, emitted=list(self.emitted))


class Supervisor:
    """`engine.runtime.interface.Runtime` with one replica. Lives in one event loop.

    Args:
        model: the files to serve.
        config: rows and prefill limits.
        prefix_bytes: budget of the prefix store.
        spawn, restarts, stall_seconds: the process, the backoff and the silence that counts
            as death; given by tests.
    """

    def __init__(
        self,
        model: ModelFiles,
        config: RuntimeConfig,
        prefix_bytes: int,
        *,
        spawn: Spawn | None = None,
        restarts: Restarts | None = None,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._model = model
        self._config = config
        self._prefix_bytes = prefix_bytes
        self._spawn = spawn or self._start_process
        self._restarts = restarts or Restarts()
        self._stall_seconds = stall_seconds
        self._streams: dict[int, _Stream] = {}
        self._state = ReplicaState.STOPPED
        self._epoch = 0
        self._child: Child | None = None
        self._ready: asyncio.Future[Ready] | None = None
        self._last_step = Step(epoch=0)
        self._progress_at = 0.0
        self._supervision: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether a stream that is submitted now will be served without a restart first."""
        dead = self._child is None or self._child.ended.done()
        return self._state is ReplicaState.READY and not dead

    async def start(self) -> None:
        """Start and wait until ready.

        Raises:
            RuntimeStartError: when the process ends or does not become ready in time.
        """
        self._state = ReplicaState.STARTING
        try:
            child = await self._launch()
        except BaseException:
            self._state = ReplicaState.FAILED
            raise
        self._supervision = asyncio.create_task(self._supervise(child))

    def submit(self, request: Submit, listener: StreamListener) -> None:
        """Begin a stream. During a restart it waits; past the last restart it faults at once."""
        if self._state in (ReplicaState.FAILED, ReplicaState.STOPPED):
            reason = f"the runtime is {self._state}"
            asyncio.get_running_loop().call_soon(listener.on_fault, reason)
            return
        if not self._streams:
            self._progress_at = _now()
        stream = self._streams[request.uid] = _Stream(request, listener, list(request.emitted))
        if self.ready:
            self._place(stream)

    def cancel(self, uid: int) -> None:
        """Forget a stream; its listener hears nothing more. Unknown ids are ignored."""
        if self._streams.pop(uid, None) and self._child:
            self._child.send(Cancel(uid=uid))

    def pause(self, uid: int) -> None:
        """Let a stream stand still until `resume`. Unknown ids are ignored."""
        if stream := self._streams.get(uid):
            stream.paused = True
            if stream.placed and self._child:
                self._child.send(Pause(uid=uid))

    def resume(self, uid: int) -> None:
        """Let a paused stream go on behind its last token. Unknown ids are ignored."""
        stream = self._streams.get(uid)
        if stream is None or not stream.paused:
            return
        stream.paused = False
        if stream.placed and self._child:
            self._child.send(Resume(uid=uid))
        elif self.ready:
            self._place(stream)

    def evict(self, keep_bytes: int) -> None:
        """Shrink the prefix store of the process."""
        if self._child:
            self._child.send(Evict(keep_bytes=keep_bytes))

    async def scale(self, replicas: int) -> None:
        """One process is all that there is here; `Pool` has more."""
        if replicas != 1:
            raise ValueError(f"one supervisor keeps one process, asked for {replicas}")

    async def renew(self) -> None:
        """Replace the process by a fresh one; live streams go on there."""
        self._break("renewed on request")

    def replicas(self) -> list[Replica]:
        """The one process."""
        ready = self._ready.result() if self._ready and self._ready.done() else None
        return [
            Replica(
                pid=self._child.pid if self._child and not self._child.ended.done() else None,
                state=self._state,
                streams=len(self._streams),
                restarts=self._restarts.total,
                blas=ready.blas if ready else "",
                device=ready.device if ready else "",
                kv_bytes=self._last_step.kv_bytes + self._last_step.parked_bytes,
                prefix_bytes=self._last_step.prefix_bytes,
                memory_bytes=self._last_step.memory_bytes,
            )
        ]

    async def stop(self) -> None:
        """End the process and wait until it is gone; streams that are still live fault."""
        self._state = ReplicaState.STOPPED
        if self._supervision:
            self._supervision.cancel()
            await asyncio.wait({self._supervision})
        if self._child:
            await self._child.stop()
        self._fault_all("the runtime stopped")

    # The life of the process.

    async def _supervise(self, child: Child) -> None:
        """Replace the process whenever it dies or stalls, within the bound of restarts."""
        while True:
            reason = await self._end_of(child)
            self._state = ReplicaState.RESTARTING
            await child.kill()  # before anything else: two processes must never serve one stream
            delay = self._restarts.died(_now())
            log.error("runtime %d: %s: %s", child.pid, reason, child.tail())
            if delay is None:
                self._state = ReplicaState.FAILED
                self._fault_all("the runtime died too often")
                return
            await asyncio.sleep(delay)
            try:
                child = await self._launch()
            except RuntimeStartError as error:  # the next turn counts it as another death
                log.error("%s", error)  # noqa: TRY400  # the message says it all

    async def _launch(self) -> Child:
        """Start a process of the next epoch; once it is ready, hand it every live stream."""
        self._epoch += 1
        self._ready = asyncio.get_running_loop().create_future()
        child = await self._spawn(self._epoch, self._on_frame)
        self._child = child
        try:
            await self._until_ready(child, self._ready)
        except BaseException:  # also when cancelled: no process stays behind
            await child.kill()
            raise
        self._state = ReplicaState.READY
        self._progress_at = _now()
        for stream in self._streams.values():
            stream.placed = False
            self._place(stream)
        return child

    def _place(self, stream: _Stream) -> None:
        """Hand a stream to the process, unless it stands still."""
        if self._child and not stream.paused:
            stream.placed = True
            self._child.send(stream.resumed())

    async def _until_ready(self, child: Child, ready: asyncio.Future[Ready]) -> None:
        either: set[asyncio.Future[Any]] = {ready, child.ended}
        await asyncio.wait(either, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            return
        what = child.ended.result() if child.ended.done() else f"not ready in {START_SECONDS:g} s"
        await child.kill()
        raise RuntimeStartError(f"the runtime did not start: {what}: {child.tail()}")

    async def _end_of(self, child: Child) -> str:
        """Wait until the process is dead or silent too long; say which."""
        while True:
            left = self._stall_seconds
            if self._streams:
                left = self._progress_at + self._stall_seconds - _now()
            if left <= 0:
                return f"no progress for {self._stall_seconds:g} s"
            done, _ = await asyncio.wait({child.ended}, timeout=left)
            if done:
                return child.ended.result()

    async def _start_process(self, epoch: int, on_frame: OnFrame) -> Child:
        size = sum(file.stat().st_size for file in self._model.path.glob("*.safetensors"))
        try:
            environment = blas.child_environment(size)
        except blas.BlasError as error:
            raise RuntimeStartError(str(error)) from error
        options = worker_options(self._model.path, self._config, self._prefix_bytes, epoch)
        return await Process.start(options, environment, on_frame)

    # The frames of the process.

    def _on_frame(self, frame: FromRuntime) -> None:
        if frame.epoch != self._epoch:
            return
        match frame:
            case Ready():
                self._on_ready(frame)
            case Step():
                self._on_step(frame)
            case Fault(uid=uid, reason=reason):
                self._on_fault(uid, reason)
            case Faulted(uids=uids, reason=reason):
                for uid in uids:
                    self._on_fault(uid, reason)

    def _on_ready(self, frame: Ready) -> None:
        log.info("runtime %d is ready on %s with BLAS %s", frame.pid, frame.device, frame.blas)
        if frame.blas == blas.REFERENCE:
            log.warning("%s", blas.ADVICE)
        if self._ready and not self._ready.done():
            self._ready.set_result(frame)

    def _on_step(self, frame: Step) -> None:
        self._last_step = frame
        if frame.tokens or frame.prefills:
            self._progress_at = _now()
        for prefill in frame.prefills:
            self._on_prefill(prefill)
        for token in frame.tokens:
            self._on_token(token)

    def _on_prefill(self, prefill: Prefill) -> None:
        stream = self._streams.get(prefill.uid)
        if stream and not stream.emitted:  # a replayed stream has had its prefill
            self._tell(prefill.uid, stream.listener.on_prefill, prefill)

    def _on_token(self, token: Token) -> None:
        stream = self._streams.get(token.uid)
        if stream is None:  # cancelled while this frame was under way
            return
        if token.position != len(stream.emitted):
            self._break(
                f"stream {token.uid}: token at position {token.position} "
                f"where {len(stream.emitted)} is next"
            )
            return
        stream.emitted.append(token.token)
        if token.finish is not None:
            del self._streams[token.uid]
        self._tell(token.uid, stream.listener.on_token, token)

    def _on_fault(self, uid: int, reason: str) -> None:
        if stream := self._streams.pop(uid, None):
            self._tell(uid, stream.listener.on_fault, reason)

    def _break(self, reason: str) -> None:
        """Treat the process as dead: what it sends can no longer be trusted."""
        if self._child and not self._child.ended.done():
            self._child.ended.set_result(reason)

    def _fault_all(self, reason: str) -> None:
        for uid in list(self._streams):
            self._on_fault(uid, reason)

    def _tell(self, uid: int, hear: Callable[[Heard], None], what: Heard) -> None:
        """Call a listener; one that raises loses its own stream and harms no other."""
        try:
            hear(what)
        except Exception:
            log.exception("the listener of stream %d raised; cancelling the stream", uid)
            self.cancel(uid)


def _now() -> float:
    return asyncio.get_running_loop().time()
