"""Where the time to first token goes, and what of the prompts was not computed again."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from engine.core.flags import TTFT_PIPELINE
from engine.server.streams import Stream

#: In order; they add up to the time to first token.
STAGES: Final = ("tokenise", "queue", "lookup", "prefill", "decode")

#: Seconds: a lookup takes some tens of microseconds, a wait in the queue up to its deadline.
STAGE_BUCKETS: Final = (
    *(0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.55, 0.8),
    *(1.2, 2.5, 5.0, 10.0, 30.0),
)

_ARMS: Final = ("on", "off")


class StageMetrics:
    """By the assignment of `ttft_pipeline`; every child is created at start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        stages = Histogram(
            "phase5_ttft_stage_seconds",
            "Parts of the time to first token",
            ("stage", TTFT_PIPELINE),
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        tokens = Counter(
            "phase5_prompt_tokens",
            "Prompt tokens of streams that had their first token",
            ("source", TTFT_PIPELINE),
            registry=registry,
        )
        warm = Counter(
            "phase5_warm_streams",
            "Streams that waited and were announced to the runtime",
            ("found",),
            registry=registry,
        )
        self._stages = {(name, arm): stages.labels(name, arm) for name in STAGES for arm in _ARMS}
        self._tokens = {
            (source, arm): tokens.labels(source, arm)
            for source in ("cached", "computed")
            for arm in _ARMS
        }
        self._warm = {found: warm.labels(found) for found in ("hit", "miss")}

    def first_text(self, stream: Stream) -> None:
        """A stream has its first text."""
        arm = "on" if TTFT_PIPELINE in stream.flags else "off"
        for name, seconds in stream.times.spans():
            if (name, arm) in self._stages:
                self._stages[name, arm].observe(seconds)
        prompt = len(stream.job.prompt)
        self._tokens["cached", arm].inc(stream.cached_tokens)
        self._tokens["computed", arm].inc(max(0, prompt - stream.cached_tokens))
        if stream.announced:
            self._warm["hit" if stream.cached_tokens else "miss"].inc()
