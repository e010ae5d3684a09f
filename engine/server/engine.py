"""The engine as the routes see it: one object that holds the parts together."""

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Final

from engine import __version__
from engine.config import ConfigError
from engine.core.admission import AdmissionQueue
from engine.core.flags import QOS_MONITORING, TTFT_PIPELINE, FlagSet
from engine.core.registry import StreamEvent, StreamRegistry
from engine.runtime.interface import Runtime
from engine.server.dispatch import Dispatcher
from engine.server.errors import ApiError
from engine.server.features import Features, wants_http2
from engine.server.memory import MemoryWatch
from engine.server.metrics import Build, Live, Metrics
from engine.server.parts import Call, Clocks, Codec, Http2Port, Ports
from engine.server.recent import Ended
from engine.server.requests import Job
from engine.server.settings import Settings
from engine.server.sockets import ListenError
from engine.server.streams import Stream, Times

if TYPE_CHECKING:
    from engine.runtime.models import ModelFiles

log = logging.getLogger("engine.server")

#: How often the limit is brought up to date when no stream does it.
TICK_SECONDS: Final = 0.5


class Engine:
    """Holds the parts of the front end. Lives in one event loop.

    Args:
        settings: the configuration that serves.
        model: what the runtime serves.
        runtime: started and stopped by the caller.
        codec: of the same model.
        commit: of the build, or `unknown`.
        engine_id: names the engine in block assignments.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        model: "ModelFiles",
        runtime: Runtime,
        codec: Codec,
        commit: str,
        engine_id: str,
        clocks: Clocks | None = None,
    ) -> None:
        self.settings = settings
        self.model = model
        self.runtime = runtime
        self.codec = codec
        self.commit = commit
        self.clocks = clocks or Clocks()
        self.ports = Ports()
        self.http2_port: Http2Port | None = None  # comes after the application, which needs us
        self.http2_clients: Counter[tuple[str, str]] = Counter()
        config = settings.config
        self.features = Features(config, settings.states(), engine_id)
        self.registry = StreamRegistry(_listener_failed)
        self.registry.add_listener(self.features.ended)
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
            ),
            registry=self.registry,
            deadline_seconds=config.admission.deadline_seconds,
            clock=self.clocks.now,
            shed_seconds=self.memory.shed_seconds,
        )
        self.metrics = Metrics(
            self._live(), self._build(), [slo.name for slo in config.qos.policies]
        )
        self.metrics.registry.register(self.memory)
        self._show_flags()

    @property
    def ready(self) -> bool:
        """Whether a request that comes now is served."""
        return self.runtime.ready and not self.dispatcher.draining

    def open(self, job: Job, flags: FlagSet, times: Times) -> Stream:
        """Begin a stream.

        Raises:
            ApiError: see `Dispatcher.open`.
        """
        stream = Stream(
            uid=self.dispatcher.next_uid(),
            job=job,
            flags=flags,
            times=times,
            detokenizer=self.codec.detokenizer(),
            clock=self.clocks.now,
            observer=self,
        )
        self.update_limit()
        self.dispatcher.open(stream)
        self.features.began(stream.uid, flags)
        return stream

    def close(self, stream: Stream, outcome: str) -> None:
        """End a stream, once, with one of `metrics.OUTCOMES`."""
        now = self.clocks.now()
        reason = stream.finish_reason or outcome
        if outcome == "ok":
            self.registry.complete(stream.uid, now, reason)
        elif outcome == "cancelled":
            self.registry.cancel(stream.uid, now, reason)
        else:
            self.registry.fail(stream.uid, now, reason)
        self.dispatcher.close(stream)

    def account(self, call: Call, outcome: str, stream: Stream | None) -> None:
        """Count a request that ended, once, served or not."""
        now = self.clocks.now()
        times = call.times
        arm = self.metrics.arm(call.flags)
        waited = now - times.arrived
        if stream is not None and times.first_text is None and waited > self._patience():
            # Nobody saw a first token in time: that it ended otherwise does not undo the wait.
            arm.ttft.observe(waited)
        if outcome == "ok":
            arm.duration.observe(waited)
        first = times.first_text
        self.metrics.ended(
            call.flags,
            call.protocol,
            Ended(
                now=now,
                outcome=outcome,
                ttft=None if first is None else first - times.arrived,
                tokens=stream.output_tokens if stream else 0,
                pipeline=stream is not None and TTFT_PIPELINE in call.flags,
                hit=stream is not None and stream.cached_tokens > 0,
            ),
        )

    # What streams tell (`streams.Observer`).

    def first_text(self, stream: Stream, now: float) -> None:
        """Time to first token, since arrival for the metric, since its place for the governor."""
        times = stream.times
        self.metrics.arm(stream.flags).ttft.observe(now - times.arrived)
        queue = self.dispatcher.queue
        if times.submitted is not None:
            # Under memory pressure fewer run than the governor lets: no reason to let more.
            at_limit = queue.running >= self._own_limit
            self.features.first_text(now - times.submitted, now, at_limit=at_limit)

    def tokens(self, stream: Stream, now: float, count: int) -> None:
        """Output tokens that went out."""
        self.registry.token(stream.uid, now, count)
        self.metrics.arm(stream.flags).output_tokens.inc(count)

    def token_gap(self, stream: Stream, seconds: float) -> None:
        """Time between two tokens."""
        self.metrics.arm(stream.flags).inter_token.observe(seconds)

    # What changes while the engine runs.

    def reload(self) -> list[str]:
        """Read the configuration again and swap it in; live streams keep their flags.

        Returns:
            Changed sections that take effect only at the next start.

        Raises:
            ConfigError, ListenError: the old configuration goes on serving.
        """
        try:
            new, waiting = self.settings.reread()
            self._switch(new)
        except (ConfigError, ListenError):
            self.metrics.reloaded("refused")
            raise
        self.metrics.reloaded("applied")
        log.info(
            "reloaded %s at generation %d", self.settings.path, self.settings.config.generation
        )
        if waiting:
            log.warning("changed, but only a restart takes it over: %s", ", ".join(waiting))
        return waiting

    def _switch(self, new: Settings) -> None:
        states = new.states()
        http2 = wants_http2(states)
        if self.http2_port is not None and http2:
            self.http2_port.open()  # first: if it fails, nothing has changed
        self.settings = new
        self.features.serve(new.config, states)
        if self.http2_port is not None and not http2:
            self.http2_port.close()
        self._show_flags()

    def update_limit(self) -> None:
        """Bring the limit up to date with the governor or the configuration, and the memory."""
        now, wall = self.clocks.now(), self.clocks.wall()
        self._own_limit = self.features.limit(self._own_limit, now, wall)
        self.dispatcher.set_limit(self.memory.capped(self._own_limit))

    async def tick(self) -> None:
        """Keep the limit up to date while no stream comes. Runs until cancelled."""
        while True:
            self.update_limit()
            await asyncio.sleep(TICK_SECONDS)

    async def watch_memory(self) -> None:
        """Keep the runtime's processes within their memory. Runs until cancelled."""
        await self.memory.run(lambda: self._own_limit)

    async def watch_slos(self) -> None:
        """Evaluate the SLOs at their interval. Runs until cancelled."""
        while True:
            await asyncio.sleep(self.settings.config.qos.evaluation_seconds)
            self.evaluate_slos()

    def evaluate_slos(self) -> None:
        """Log and count what became violated since the last time; nothing while the flag is off."""
        if self.features.states[QOS_MONITORING].percentage == 0:
            return
        before = self.features.violations()
        for status in self.features.evaluate(self.clocks.now()):
            if self.features.violations()[status.name] > before[status.name]:
                log.warning(
                    "SLO %s violated: %s is %.6g, limit %.6g, n=%d",
                    *(status.name, status.metric, status.value, status.limit, status.n),
                )
                self.metrics.violations.labels(status.name).inc()

    async def drain(self, seconds: float) -> bool:
        """Take no new request; let live streams finish. Whether all did within the time."""
        self.dispatcher.draining = True
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

    def _patience(self) -> float:
        """Seconds after which a wait for a first token misses the target, however it ends."""
        return self.settings.config.governor.target_ttft_ms / 1000

    def _live(self) -> Live:
        return Live(
            now=self.clocks.now,
            streams=lambda: self.registry.counts().live,
            waiting=lambda: self.dispatcher.queue.waiting,
            limit=lambda: self.dispatcher.queue.limit,
            connections=lambda: len(self.http2_clients),
            replicas=self.runtime.replicas,
        )

    def _build(self) -> Build:
        return Build(
            version=__version__,
            commit=self.commit,
            model=self.model.name,
            model_sha256=self.model.sha256,
            config_sha256=self.settings.config.digest(),
        )

    def _show_flags(self) -> None:
        for name, state in self.settings.states().items():
            epoch = self.settings.config.phase4_rollout.flag(name).epoch
            self.metrics.set_flag(name, percentage=state.percentage, epoch=epoch)


def _listener_failed(event: StreamEvent, error: Exception) -> None:
    log.error("a listener failed on stream %d: %s", event.stream_id, type(error).__name__)
