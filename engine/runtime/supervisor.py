"""Keeps one runtime process serving: starts it, and replaces it when it dies or is stuck.

A stream outlives the process (`roster`): the old process is killed first, and every live
stream goes on in a new one behind its last token. Only frames of the current epoch count.
When a process fails by itself, one of its streams may be the cause; the roster finds out
which (`engine.core.isolation`), and only that one fails.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from engine.core.stall import StallLimit
from engine.runtime.child import Blame, Child, Spawn
from engine.runtime.interface import Replica, ReplicaState, RuntimeStartError, StreamListener
from engine.runtime.launcher import Launcher, News
from engine.runtime.messages import Evict, Fault, Faulted, Step, Submit, Warm
from engine.runtime.restarts import Restarts
from engine.runtime.roster import OutOfOrderError, Roster
from engine.runtime.warming import Warming

log = logging.getLogger("engine.runtime.supervisor")

#: New streams wait for a restart of so long: the built-in models take one to three seconds,
#: and clients that wait longer than this for a first token are better told to come back.
PATIENCE_SECONDS: Final = 10.0

#: Frames that came while the event loop was busy are read before a silence is believed.
_READ_SECONDS: Final = 0.1

#: Between looks at the limit of a silence.
_LOOK_SECONDS: Final = 1.0


class Supervisor:
    """One replica of the model. Lives in one event loop.

    Args:
        spawn: starts its processes.
        on_failed: called once when the process stays down for good, before its streams fault;
            `hand_over` in it saves them.
        restarts, stall: the backoff, and the silence that counts as death; given by tests.
    """

    def __init__(
        self,
        spawn: Spawn,
        *,
        on_failed: Callable[[], None] | None = None,
        restarts: Restarts | None = None,
        stall: StallLimit | None = None,
    ) -> None:
        self._on_failed = on_failed
        self._launcher = Launcher(spawn, self._on_news)
        self._restarts = restarts or Restarts()
        self._stall = stall or StallLimit()
        self._roster = Roster()
        self._warming = Warming()
        self._read_ahead = self._expired = self._drafted = self._accepted = 0
        self._cpu_seconds = 0.0
        self._state = ReplicaState.STOPPED
        self._child: Child | None = None
        self._blame: Blame | None = None  #: why we ended the process, where it was us
        self._renewal: asyncio.Future[None] | None = None
        self._last_step = Step(epoch=0)
        self._progress_at = 0.0
        self._down_at = 0.0
        self._supervision: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether a stream that is submitted now will be served without a restart first."""
        dead = self._child is None or self._child.ended.done()
        return self._state is ReplicaState.READY and not dead

    @property
    def accepting(self) -> bool:
        """Whether a stream that is submitted now is served at once or after a short restart."""
        if self._state is ReplicaState.RESTARTING:
            return _now() - self._down_at < PATIENCE_SECONDS
        return self._state is ReplicaState.READY

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
        self._wake()
        self._warming.submitted(request.uid)
        self._roster.submit(request, listener)

    def cancel(self, uid: int) -> None:
        """Forget a stream; its listener hears nothing more. Unknown ids are ignored."""
        self._roster.cancel(uid)

    def pause(self, uid: int) -> None:
        """Let a stream stand still until `resume`. Unknown ids are ignored."""
        self._roster.pause(uid)

    def resume(self, uid: int) -> None:
        """Let a paused stream go on behind its last token. Unknown ids are ignored."""
        self._wake()
        self._roster.resume(uid)

    def simplify(self, uid: int) -> None:
        """Let a stream go on without the pipeline. Unknown ids are ignored."""
        self._wake()
        self._roster.simplify(uid)

    def warm(self, message: Warm, on_known: Callable[[int], None]) -> None:
        """A stream waits; passed over while the process is down or under suspicion."""
        if self.ready and self._child and not self._roster.investigating:
            self._warming.warm(self._child, message, on_known, _now())

    def forget(self, uid: int) -> None:
        """A stream that was to be warmed does not come. Unknown ids are ignored."""
        self._warming.forget(self._child, uid)

    def hand_over(self) -> list[tuple[Submit, StreamListener]]:
        """Give every live stream away, each to go on elsewhere behind its last token."""
        return self._roster.hand_over()

    def evict(self, keep_bytes: int) -> None:
        """Shrink the prefix store of the process."""
        if self._child:
            self._child.send(Evict(keep_bytes=keep_bytes))

    async def renew(self) -> None:
        """Replace the process by a fresh one and wait for it; live streams go on there.

        Planned: it has no backoff and does not count as a death. Without effect while the
        process is being replaced anyway, or is down.
        """
        if self.ready and self._child:
            self._renewal = asyncio.get_running_loop().create_future()
            self._end("renewed on request", Blame.PLANNED)
        if self._renewal:
            await asyncio.shield(self._renewal)

    def replicas(self) -> list[Replica]:
        """The one process."""
        facts, step = self._launcher.facts, self._last_step
        return [
            Replica(
                pid=self._child.pid if self._child and not self._child.ended.done() else None,
                state=self._state,
                streams=len(self._roster),
                restarts=self._restarts.total,
                replayed=self._roster.replayed,
                convicted=self._roster.convicted,
                blas=facts.blas if facts else "",
                device=facts.device if facts else "",
                kv_bytes=step.kv_bytes + step.parked_bytes,
                prefix_bytes=step.prefix_bytes,
                pinned_bytes=step.pinned_bytes,
                read_ahead=self._read_ahead,
                expired=self._expired,
                memory_bytes=step.memory_bytes,
                drafted=self._drafted,
                accepted=self._accepted,
                cpu_seconds=self._cpu_seconds,
                speculating=step.speculating,
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
        self._renewed()
        self._roster.fault_all("the runtime stopped")

    # The life of the process.

    async def _supervise(self, child: Child) -> None:
        """Replace the process whenever it dies or is stuck, within the bound of restarts."""
        while True:
            reason = await self._end_of(child)
            self._state, self._down_at = ReplicaState.RESTARTING, _now()
            successor = await self._replace(await self._bury(child, reason))
            if successor is None:
                self._give_up()
                return
            child = successor

    async def _replace(self, delay: float | None) -> Child | None:
        """Start the next process; None when there have been too many deaths in a row."""
        while delay is not None:
            await asyncio.sleep(delay)
            try:
                return await self._launch()
            except RuntimeStartError as error:
                log.error("%s", error)  # noqa: TRY400  # the message says it all
                delay = self._restarts.died(_now())
        return None

    async def _bury(self, child: Child, reason: str) -> float | None:
        """End a process for certain, find out why it failed, and say when the next may start."""
        blame = self._blame or await child.blame()
        self._blame = None
        # Before anything else: two processes must never serve one stream.
        await child.kill()
        expected = blame.on_a_stream and self._roster.investigating
        suspected = blame.on_a_stream and not self._warming.failed(_now())
        self._roster.detach(f"{reason}, {blame}" if suspected else None)
        self._warming.ended()
        if blame is Blame.PLANNED:
            log.info("runtime %d: %s", child.pid, reason)
            return 0.0
        log.error("runtime %d: %s (%s): %s", child.pid, reason, blame, child.tail())
        # An expected death brings the culprit nearer; it is no sign that restarts are in vain.
        return 0.0 if expected else self._restarts.died(_now())

    def _give_up(self) -> None:
        self._state = ReplicaState.FAILED
        self._renewed()
        if self._on_failed:
            self._on_failed()
        self._roster.fault_all("the runtime died too often")

    async def _launch(self) -> Child:
        """Start the next process and hand it every live stream."""
        child = self._child = await self._launcher.launch()
        self._state = ReplicaState.READY
        self._last_step = Step(epoch=0)  # what the last process held is given back
        self._progress_at = _now()
        self._roster.attach(child)
        child.ended.add_done_callback(lambda _: self._roster.cut())
        self._renewed()
        return child

    async def _end_of(self, child: Child) -> str:
        """Wait until the process is dead, or silent too long although it has work; say which."""
        while True:
            limit = self._stall.seconds(_now())
            left = self._progress_at + limit - _now() if self._roster.working else limit
            if left <= 0:
                return f"no progress for {limit:.3g} s"
            # The limit may have fallen by then: before the first step it is six times as long.
            done, _ = await asyncio.wait({child.ended}, timeout=min(left, _LOOK_SECONDS))
            if not done and left <= _LOOK_SECONDS:
                done, _ = await asyncio.wait({child.ended}, timeout=_READ_SECONDS)
            if done:
                return child.ended.result()

    def _end(self, reason: str, blame: Blame) -> None:
        """Treat the process as dead."""
        if self._child and not self._child.ended.done():
            self._blame = blame
            self._child.ended.set_result(reason)

    def _renewed(self) -> None:
        if self._renewal and not self._renewal.done():
            self._renewal.set_result(None)
        self._renewal = None

    # What the process says.

    def _on_news(self, news: News) -> None:
        match news:
            case Step():
                self._on_step(news)
            case Fault(uid=uid, reason=reason):
                self._roster.fault(uid, reason)
            case Faulted(uids=uids, reason=reason, read_ahead=read_ahead):
                if read_ahead and self._warming.failed(_now()):
                    self._roster.again(uids)
                else:
                    self._roster.suspect(reason, uids)

    def _on_step(self, frame: Step) -> None:
        self._last_step = frame
        self._warming.heard(frame.warmed)
        self._read_ahead += frame.read_ahead
        self._expired += frame.expired
        self._drafted += frame.drafted
        self._accepted += frame.accepted
        self._cpu_seconds += frame.cpu_seconds
        if frame.tokens or frame.prefills:
            self._progressed()
        if frame.tokens:
            self._restarts.worked()
        for prefill in frame.prefills:
            self._roster.prefill(prefill)
        try:
            for token in frame.tokens:
                self._roster.token(token)
        except OutOfOrderError as error:
            self._end(str(error), Blame.CORRUPT)

    def _progressed(self) -> None:
        now = _now()
        self._stall.observe(now - self._progress_at, now)
        self._progress_at = now

    def _wake(self) -> None:
        """Work begins: what was idle until now was no silence."""
        if not self._roster.working:
            self._progress_at = _now()


def _now() -> float:
    return asyncio.get_running_loop().time()
