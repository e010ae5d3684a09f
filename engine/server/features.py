"""What each flag changes, for its stream and for its engine.

| flag | changes |
|---|---|
| `adaptive_governor` | the limit and who is shed come from `governance`, in blocks of time |
| `http2_transport` | the second port is open; assigned streams are told of it |
| `ttft_pipeline` | the stream may reorder among its kind, and reuses prefixes |
| `qos_monitoring` | every Nth of the flag's streams is watched by the SLO monitor |
"""

from collections.abc import Mapping
from typing import Final

from engine.config import Config
from engine.core.flags import (
    ADAPTIVE_GOVERNOR,
    HTTP2_TRANSPORT,
    QOS_MONITORING,
    FlagSet,
    FlagState,
    assigned,
    decide,
)
from engine.core.qos import QosMonitor, Slo, SloStatus
from engine.core.registry import StreamEvent
from engine.server.governance import Governance

#: The governor acts on a whole engine, so it is assigned by time: long enough for its loop
#: to settle and be measured, short enough for many blocks a day.
BLOCK_SECONDS: Final = 300


class Features:
    """Owns what the flags switch: their states, the governance, the SLO monitor."""

    def __init__(self, config: Config, states: Mapping[str, FlagState], engine_id: str) -> None:
        self._config = config
        self._engine_id = engine_id
        self.governance = Governance(config)
        self._seen = 0
        self._watched: set[int] = set()
        self._monitor = QosMonitor(
            (Slo(**policy.model_dump()) for policy in config.qos.policies),
            config.qos.window_seconds,
            config.qos.min_samples,
        )
        self.states = dict(states)

    def serve(self, config: Config, states: Mapping[str, FlagState]) -> None:
        """Take over other shares. Streams that live keep their flags."""
        self._config = config
        self.states = dict(states)

    def assign(self, key: str, wall: float) -> FlagSet:
        """The flags of a new stream; `wall` is seconds since 1970, for the governor's block."""
        by_key = {name: state for name, state in self.states.items() if name != ADAPTIVE_GOVERNOR}
        flags = decide(by_key, key)
        return flags | {ADAPTIVE_GOVERNOR} if self._governed(wall) else flags

    def limit(self, current: int, now: float, wall: float) -> int:
        """How many streams may run at once.

        The governor starts at the `current` limit, so that a block begins without a bump.
        """
        if self._governed(wall):
            return self.governance.limit(current, now)
        self.governance.stop()
        return self._config.admission.limit

    def first_text(self, ttft: float, now: float, *, at_limit: bool) -> None:
        """A stream has its first text `ttft` seconds after it got its place."""
        self.governance.first_text(ttft, now, at_limit=at_limit)

    def began(self, stream_id: int, flags: FlagSet) -> None:
        """Watch every Nth stream of the monitoring's treatment."""
        if QOS_MONITORING not in flags:
            return
        if self._seen % self._config.phase4_rollout.qos_monitoring.sample_rate == 0:
            self._watched.add(stream_id)
        self._seen += 1

    def ended(self, event: StreamEvent) -> None:
        """A listener of the registry."""
        if event.stream_id in self._watched:
            self._watched.remove(event.stream_id)
            self._monitor.observe(event)

    def evaluate(self, now: float) -> list[SloStatus]:
        """Every SLO as the watched streams show it."""
        return self._monitor.evaluate(now)

    def violations(self) -> Mapping[str, int]:
        """For each SLO, how often it became violated."""
        return self._monitor.violations_total

    def _governed(self, wall: float) -> bool:
        state = self.states[ADAPTIVE_GOVERNOR]
        block = f"{self._engine_id}:{int(wall) // BLOCK_SECONDS}"
        return assigned(state.salt, block, state.percentage)


def wants_http2(states: Mapping[str, FlagState]) -> bool:
    """Whether any stream may be told of the second port."""
    return states[HTTP2_TRANSPORT].percentage > 0
