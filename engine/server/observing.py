"""What streams and requests tell, passed on to everyone who counts or acts on it."""

import logging
from collections.abc import Callable, Sequence

from engine.core.flags import TTFT_PIPELINE
from engine.core.registry import StreamRegistry
from engine.runtime.interface import Runtime
from engine.runtime.messages import Prefill
from engine.server.dispatch import Dispatcher
from engine.server.features import Features
from engine.server.flow import FlowMetrics
from engine.server.metrics import Metrics
from engine.server.parts import Call
from engine.server.recent import Ended
from engine.server.streams import Stream

log = logging.getLogger("engine.server")


class Observing:
    """The `streams.Observer` of every stream, and the account of every request.

    Args:
        at_limit: whether as many streams run as the governor lets. Fewer under memory pressure
            are no reason for it to let more.
        patience: seconds after which a wait for a first token counts as slow, however it ends.
    """

    def __init__(
        self,
        *,
        metrics: Metrics,
        flow: FlowMetrics,
        registry: StreamRegistry,
        features: Features,
        dispatcher: Dispatcher,
        at_limit: Callable[[], bool],
        runtime: Runtime,
        patience: float,
        clock: Callable[[], float],
    ) -> None:
        self._metrics = metrics
        self._flow = flow
        self._registry = registry
        self._features = features
        self._dispatcher = dispatcher
        self._at_limit = at_limit
        self._runtime = runtime
        self._patience = patience
        self._clock = clock

    def prefilled(self, prefill: Prefill, cached: int) -> None:
        """The governor learns how fast prompts are read; who waited for that may begin."""
        self._features.governance.prefilled(prefill, cached, self._clock())
        self._dispatcher.prefilled()

    def first_text(self, stream: Stream, now: float) -> None:
        """Time to first token, since arrival for the metric, since its place for the governor."""
        times = stream.times
        self._metrics.arm(stream.flags).ttft.observe(now - times.arrived)
        self._metrics.stages.first_text(stream)
        if times.submitted is not None:
            waited = now - times.submitted
            self._features.first_text(stream.uid, waited, now, at_limit=self._at_limit())

    def tokens(self, stream: Stream, now: float, count: int) -> None:
        """Output tokens that went out."""
        self._registry.token(stream.uid, now, count)
        self._metrics.arm(stream.flags).output_tokens.inc(count)

    def token_gap(self, stream: Stream, seconds: float) -> None:
        """Time between two tokens."""
        self._metrics.arm(stream.flags).inter_token.observe(seconds)

    def pause(self, stream: Stream) -> None:
        """As much waits for the client as may."""
        self._flow.pauses.inc()
        self._runtime.pause(stream.uid)

    def resume(self, stream: Stream) -> None:
        """The client took enough of it."""
        self._runtime.resume(stream.uid)

    def ended(
        self, call: Call, outcome: str, streams: Sequence[Stream], reason: str | None
    ) -> None:
        """Count a request that ended, once, served or not; `streams` are its choices."""
        now = self._clock()
        waited = now - call.times.arrived
        arm = self._metrics.arm(call.flags)
        for stream in streams:
            # Nobody saw a first token in time: that it ended otherwise does not undo the wait.
            if stream.times.first_text is None and waited > self._patience:
                arm.ttft.observe(waited)
        if outcome == "ok":
            arm.duration.observe(waited)
        if streams and reason in self._flow.dropped:
            self._dropped(call, streams, reason)
        firsts = [at for stream in streams if (at := stream.times.first_text) is not None]
        self._metrics.ended(
            call.flags,
            call.protocol,
            Ended(
                now=now,
                outcome=outcome,
                ttft=min(firsts) - call.times.arrived if firsts else None,
                tokens=sum(stream.output_tokens for stream in streams),
                pipeline=bool(streams) and TTFT_PIPELINE in call.flags,
                hit=any(stream.cached_tokens for stream in streams),
            ),
            call.key,
        )

    def _dropped(self, call: Call, streams: Sequence[Stream], reason: str) -> None:
        self._flow.dropped[reason].inc()
        log.warning(
            "request %s: dropped after %d output tokens: %s",
            *(call.request_id, sum(stream.output_tokens for stream in streams), reason),
        )
