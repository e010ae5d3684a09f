"""The engine as the routes see it: one object that holds the parts together."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from engine import __version__
from engine.core.admission import AdmissionQueue
from engine.core.aggregates import Aggregate
from engine.core.brakes import braked
from engine.core.flags import FlagSet, FlagState
from engine.core.registry import StreamEvent, StreamRegistry
from engine.core.valve import Valve
from engine.runtime.interface import Runtime
from engine.server.cleanup import Cleanup
from engine.server.connecting import register_connections
from engine.server.connections import Connections
from engine.server.dispatch import Dispatcher
from engine.server.errors import ApiError
from engine.server.features import Features, wants_http2
from engine.server.flow import AGGREGATE_SECONDS, FlowMetrics
from engine.server.memory import MemoryWatch
from engine.server.metrics import TTFT_LIMIT, Build, Live, Metrics
from engine.server.observing import Observing
from engine.server.parts import Call, Clocks, Codec, Http2Port, Ports
from engine.server.qos import QosIntegration
from engine.server.reloading import Reloader
from engine.server.requests import Job
from engine.server.rollout import EngineRollout
from engine.server.rollout_views import RolloutMetrics
from engine.server.settings import Settings
from engine.server.state import EngineState
from engine.server.streams import ClientGone, Stream, Times

if TYPE_CHECKING:
    from engine.runtime.models import ModelFiles

log = logging.getLogger("engine.server")

#: How often time is looked at. Limits of time are seconds, so half a second late is in time.
TICK_SECONDS: Final = 0.5


class Engine:
    """Holds the parts of the front end. Lives in one event loop.

    Args:
        settings: the configuration that serves.
        model: what the runtime serves.
        runtime: started and stopped by the caller.
        codec: of the same model.
        commit: of the build, or `unknown`.
        state: who the engine is, and what it remembers; its id names it in block assignments.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        model: "ModelFiles",
        runtime: Runtime,
        codec: Codec,
        commit: str,
        state: EngineState,
        clocks: Clocks | None = None,
    ) -> None:
        self.engine_id = engine_id = state.id
        self.model = model
        self.runtime = runtime
        self.codec = codec
        self.commit = commit
        self.clocks = clocks or Clocks()
        self.rollout = EngineRollout(state, self.clocks)
        self.settings = self.rollout.resume(settings)
        self.ports = Ports()
        self.http2_port: Http2Port | None = None  # comes after the application, which needs us
        config = self.settings.config
        self.connections = Connections(config.server.slow_reader_seconds, self.clocks.now)
        self.features = Features(config, self.states(), engine_id)
        self.registry = StreamRegistry(_listener_failed)
        self.memory = MemoryWatch(
            runtime,
            config.runtime.memory_bytes,
            floor=config.governor.min_limit,  # the fewest streams that are worth an engine
            clock=self.clocks.now,
        )
        self._own_limit = config.admission.limit  # before what the memory allows
        self.dispatcher = Dispatcher(
            runtime=runtime,
            queue=AdmissionQueue(
                config.admission.limit,
                config.admission.queue,
                # A prompt as long as the context is passed for `ageing_seconds` at most.
                codec.context_length / config.ttft_pipeline.ageing_seconds,
                guard=self.features.governance.guard,
            ),
            registry=self.registry,
            deadline_seconds=config.admission.deadline_seconds,
            clock=self.clocks.now,
            governance=self.features.governance,
            warm_seconds=config.ttft_pipeline.warm_seconds,
            shed_seconds=self.memory.shed_seconds,
        )
        self.metrics = Metrics(self._live(), self._build(), [s.name for s in config.qos.policies])
        self.flow = FlowMetrics(
            self.metrics.registry,
            self.registry,
            paused=lambda: sum(stream.paused for stream in self.dispatcher.streams.values()),
            sending=lambda: self.connections.sending,
        )
        self.registry.subscribe(self.flow.show, AGGREGATE_SECONDS, self.clocks.now())
        self._observing = Observing(
            metrics=self.metrics,
            flow=self.flow,
            registry=self.registry,
            features=self.features,
            dispatcher=self.dispatcher,
            at_limit=lambda: self.dispatcher.queue.running >= self._own_limit,
            runtime=runtime,
            patience=min(config.governor.target_ttft_ms / 1000, TTFT_LIMIT),
            clock=self.clocks.now,
        )
        self.metrics.registry.register(self.memory)
        self.metrics.registry.register(self.features.governance)
        self.metrics.registry.register(RolloutMetrics(self))
        self.cleanup = Cleanup(
            dispatcher=self.dispatcher,
            registry=self.registry,
            tenants=self.features.governance.guard.tenants,
            give_up=lambda stream: self.close(stream, "cancelled", ClientGone.reason),
        )
        self.metrics.registry.register(self.cleanup)
        self.qos = QosIntegration(
            config=config,
            features=self.features,
            runtime=runtime,
            engine_id=engine_id,
            clocks=self.clocks,
            limit=lambda: self.memory.capped(self._own_limit),
            on_limit=self.update_limit,
        )
        self.qos.show(self.metrics.violations, self.metrics.remediations)
        self.registry.add_listener(self.qos.ended)
        self.metrics.registry.register(self.qos)
        register_connections(self.metrics.registry, self.connections)
        self.reloads = Reloader(self, self.clocks.wall)
        self._show_flags()

    @property
    def ready(self) -> bool:
        """Whether a request that comes now is served."""
        return self.runtime.ready and not self.dispatcher.draining

    def open(self, job: Job, call: Call) -> list[Stream]:
        """Begin the streams of a request, one for each choice, all or none.

        The first keeps the request's own times, which its headers tell.

        Raises:
            ApiError: see `Dispatcher.open`.
        """
        flags, times = call.flags, call.times
        each = [times, *(replace(times) for _ in range(job.n - 1))]
        streams = [self._stream(job.choice(i), flags, own) for i, own in enumerate(each)]
        self.update_limit()
        self.dispatcher.open(streams, call.tenant)
        return streams

    def _stream(self, job: Job, flags: FlagSet, times: Times) -> Stream:
        return Stream(
            uid=self.dispatcher.next_uid(),
            job=job,
            flags=flags,
            times=times,
            detokenizer=self.codec.detokenizer(),
            clock=self.clocks.now,
            observer=self._observing,
            valve=Valve(self.settings.config.server.buffer_tokens) if job.stream else None,
        )

    def close(self, stream: Stream, outcome: str, reason: str | None = None) -> None:
        """End a stream, once, with one of `metrics.OUTCOMES`, and why where it did not finish."""
        now = self.clocks.now()
        reason = reason or stream.finish_reason or outcome
        if outcome == "ok":
            self.registry.complete(stream.uid, now, reason)
        elif outcome in {"cancelled", "shed"}:  # turned away is not failed
            self.registry.cancel(stream.uid, now, reason)
        else:
            self.registry.fail(stream.uid, now, reason)
        self.dispatcher.close(stream)

    def account(
        self, call: Call, outcome: str, streams: Sequence[Stream], reason: str | None = None
    ) -> None:
        """Count a request that ended, once, served or not; `streams` are its choices."""
        self._observing.ended(call, outcome, streams, reason)

    def states(self) -> dict[str, FlagState]:
        """What serves for each flag now, brakes included."""
        return braked(self.settings.states(), self.rollout.brakes)

    def serve(self) -> None:
        """Let what stands now serve: settings and brakes."""
        states = self.states()
        self.features.serve(self.settings.config, states)
        if self.http2_port is not None and not wants_http2(states):
            self.http2_port.close()
        self._show_flags()

    def update_limit(self) -> None:
        """Bring the limit up to date: the least of the governor's or the file's, and the caps."""
        now, wall = self.clocks.now(), self.clocks.wall()
        self._own_limit = self.features.limit(self._own_limit, now, wall)
        self.qos.cap.saw(self.dispatcher.queue.running)
        self.dispatcher.set_limit(self.qos.cap.capped(self.memory.capped(self._own_limit)))

    async def tick(self) -> None:
        """Do what time alone brings: see `on_tick`. Runs until cancelled."""
        while True:
            self.on_tick()
            await asyncio.sleep(TICK_SECONDS)

    def on_tick(self) -> None:
        """Keep the limit up to date, end what is over its time, tell how all streams do."""
        now = self.clocks.now()
        self.update_limit()
        self.flow.overdue.inc(
            self.dispatcher.end_overdue(self.settings.config.server.stream_seconds)
        )
        self.connections.sweep(now, late=2 * TICK_SECONDS)
        self.cleanup.sweep(now)
        self.registry.export(self.dispatcher.queue.limit, now)

    async def watch_memory(self) -> None:
        """Keep the runtime's processes within their memory. Runs until cancelled."""
        await self.memory.run(lambda: self._own_limit)

    async def watch_slos(self) -> None:
        """Evaluate the SLOs at their interval, and act. Runs until cancelled."""
        await self.qos.run()

    def stop_taking(self) -> None:
        """Take no new request: on both ports it is told so. What is open goes on."""
        self.dispatcher.draining = True

    async def drain(self, seconds: float) -> bool:
        """Take no new request; let live streams finish. Whether all did within the time."""
        self.stop_taking()
        try:
            await asyncio.wait_for(self.dispatcher.idle(), seconds)
        except TimeoutError:
            log.warning("%d streams outlived the drain", self.registry.counts().live)
            return False
        return True

    def abort(self) -> None:
        """End every live stream with an error event."""
        self.dispatcher.abort(
            ApiError(
                status=503,
                message="the engine stopped before the end",
                code="stopped",
                retry_after=1,
            )
        )

    def _live(self) -> Live:
        return Live(
            clocks=self.clocks,
            streams=lambda: self.registry.counts().live,
            waiting=lambda: self.dispatcher.queue.waiting,
            limit=lambda: self.dispatcher.queue.limit,
            connections=lambda: self.connections.open("http2"),
            replicas=self.runtime.replicas,
        )

    def _build(self) -> Build:
        return Build(
            version=__version__,
            commit=self.commit,
            model=self.model.name,
            model_sha256=self.model.sha256,
            config_sha256=self.settings.config.digest(),
            engine=self.engine_id,
        )

    def _show_flags(self) -> None:
        for name, state in self.states().items():
            flag = self.settings.config.phase4_rollout.flag(name)
            self.metrics.set_flag(name, state.percentage, flag.epoch, held=bool(flag.held))


def _listener_failed(told: StreamEvent | Aggregate, error: Exception) -> None:
    what = f"stream {told.stream_id}" if isinstance(told, StreamEvent) else "an aggregate"
    log.error("a listener failed on %s: %s", what, type(error).__name__)
