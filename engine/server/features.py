"""What each flag changes, for its stream and for its engine.

| flag | changes |
|---|---|
| `adaptive_governor` | the limit and who is shed come from `governance`, in blocks of time |
| `http2_transport` | the second port is open; assigned streams are told of it |
| `ttft_pipeline` | the stream may reorder among its kind, and reuses prefixes |
| `qos_monitoring` | every Nth of the flag's streams is watched; remedies act in blocks of time |
"""

from collections.abc import Mapping
from typing import Final

from engine.config import Config
from engine.core.flags import (
    ADAPTIVE_GOVERNOR,
    HTTP2_TRANSPORT,
    FlagSet,
    FlagState,
    assigned,
    decide,
)
from engine.server.governance import Governance

#: The governor and remedies act on a whole engine, so they are assigned by time: long enough
#: for a loop to settle and be measured, short enough for many blocks a day.
BLOCK_SECONDS: Final = 300


class Features:
    """Owns what the flags switch: their states, and the governance."""

    def __init__(self, config: Config, states: Mapping[str, FlagState], engine_id: str) -> None:
        self._config = config
        self._engine_id = engine_id
        self.governance = Governance(config)
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

    def first_text(self, uid: int, ttft: float, now: float, *, at_limit: bool) -> None:
        """A stream has its first text `ttft` seconds after it got its place."""
        self.governance.first_text(uid, ttft, now, at_limit=at_limit)

    @property
    def sample_rate(self) -> int:
        """Of the monitoring's streams every Nth is looked at."""
        return self._config.phase4_rollout.qos_monitoring.sample_rate

    def share(self, flag: str) -> float:
        """Per cent that a flag serves."""
        return self.states[flag].percentage

    def block(self, wall: float) -> int:
        """The number of a moment's block."""
        return int(wall) // BLOCK_SECONDS

    def block_on(self, flag: str, wall: float) -> bool:
        """Whether a flag that acts on a whole engine acts in a moment's block."""
        state = self.states[flag]
        return assigned(state.salt, f"{self._engine_id}:{self.block(wall)}", state.percentage)

    def _governed(self, wall: float) -> bool:
        return self.block_on(ADAPTIVE_GOVERNOR, wall)


def wants_http2(states: Mapping[str, FlagState]) -> bool:
    """Whether any stream may be told of the second port."""
    return states[HTTP2_TRANSPORT].percentage > 0
