"""What Prometheus scrapes.

Every child of every label is created at start, so that a counter which never rose reads 0
and does not lack. The names of the requirements are served beside the good ones.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.core.flags import FLAGS, FlagSet, every_flag_set
from engine.runtime.interface import Replica, ReplicaState
from engine.server.connections import PROTOCOLS
from engine.server.histograms import Tally, TokenHistogram
from engine.server.key_metrics import KeyMetrics
from engine.server.parts import Clocks
from engine.server.recent import Ended, Recent
from engine.server.stages import StageMetrics

OUTCOMES: Final = ("ok", "failed", "cut", "shed", "rejected", "cancelled")

#: Seconds. 0.4, 0.55, 0.6, 0.8 and 1.2 are limits of the requirements: a share above a limit
#: can be read exactly only from a bucket edge.
TTFT_BUCKETS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.7),
    *(0.8, 1.0, 1.2, 1.6, 2.5, 5.0, 10.0, 30.0),
)
DURATION_BUCKETS: Final = (
    *(0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.55, 0.6, 0.8, 1.0, 1.2, 1.6),
    *(2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0),
)
#: The limit of the requirements on it: a longer wait is over it, however it ends.
TTFT_LIMIT: Final = 0.55
INTER_TOKEN_BUCKETS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.25, 2.5, 5.0),
)
#: Seconds; 0.05 is the limit of the requirements.
SWAP_BUCKETS: Final = (0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 1.0)


@dataclass(frozen=True, slots=True)
class Arm:
    """The children of one flag set: what a gate compares."""

    ttft: Histogram
    duration: Histogram
    inter_token: Tally
    output_tokens: Counter
    outcomes: dict[tuple[str, str], Counter]  # by outcome and protocol
    early: Counter


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """Values that are read when the metrics are scraped."""

    clocks: Clocks
    streams: Callable[[], int]
    waiting: Callable[[], int]
    limit: Callable[[], int]
    connections: Callable[[], int]
    replicas: Callable[[], list[Replica]]


@dataclass(frozen=True, slots=True)
class Build:
    """What runs here, as labels of `phase5_build_info`."""

    version: str
    commit: str
    model: str
    model_sha256: str
    config_sha256: str
    engine: str


class Metrics:
    """Owns a registry; nothing goes into the default one.

    Args:
        live: read at the scrape.
        build: what runs.
        slos: names of those that are watched.
    """

    def __init__(self, live: Live, build: Build, slos: Iterable[str]) -> None:
        # A `_created` series for each child would double the scrape.
        disable_created_metrics()  # type: ignore[no-untyped-call] # they do not annotate it
        self.registry = CollectorRegistry()
        self._live = live
        self._recent = Recent(live.clocks.now())
        self._keys = KeyMetrics.from_environment()
        self._arms = self._make_arms()
        self.violations = self._counter("qos_violations", "SLO violations found", ("slo",))
        for slo in slos:
            self.violations.labels(slo)
        self._make_named(build)
        self._make_required()
        self.stages = StageMetrics(self.registry)
        self.registry.register(_Replicas(live.replicas))
        self.registry.register(self._keys)
        ProcessCollector(registry=self.registry)

    def scrape(self) -> bytes:
        """The text format."""
        return generate_latest(self.registry)

    def arm(self, flags: FlagSet) -> Arm:
        """The children of a flag set."""
        return self._arms[flags]

    def ended(self, flags: FlagSet, protocol: str, ended: Ended, key: str | None) -> None:
        """Count a request that ended, of whatever outcome. Shed and rejected took no time.

        Args:
            flags: of the request.
            protocol: that it came by.
            ended: how it ended.
            key: that decided its flags; None for one that was refused unread.
        """
        arm = self._arms[flags]
        arm.outcomes[ended.outcome, protocol].inc()
        if ended.outcome == "cancelled" and ended.ttft is None:
            arm.early.inc()
        if key is not None:
            self._keys.ended(key, flags, ended.outcome, self._live.clocks.wall())
        self._recent.add(ended)

    def set_flag(self, flag: str, percentage: float, epoch: int, *, held: bool) -> None:
        """Show what serves for a flag, and whether its rollout is on hold."""
        self._percentage.labels(flag).set(percentage)
        self._epoch.labels(flag).set(epoch)
        self._held.labels(flag).set(held)
        self._keys.begin(flag, epoch)

    def reloaded(self, outcome: str) -> None:
        """Count a reload: `applied` or `refused`."""
        self._reloads.labels(outcome).inc()

    def _make_arms(self) -> dict[FlagSet, Arm]:
        ttft = self._histogram("time_to_first_token", TTFT_BUCKETS)
        duration = self._histogram("request_duration", DURATION_BUCKETS)
        inter = TokenHistogram(
            name="phase5_inter_token_seconds",
            text="Inter token in seconds",
            labels=FLAGS,
            bounds=INTER_TOKEN_BUCKETS,
            children=map(_on_off, every_flag_set()),
            registry=self.registry,
        ).children
        tokens = self._counter("phase5_output_tokens", "Output tokens", FLAGS)
        requests = self._counter(
            "phase5_requests", "Requests by outcome", ("outcome", "protocol", *FLAGS)
        )
        early = self._counter("phase5_early_cancels", "Cancelled before the first token", FLAGS)
        return {
            flags: Arm(
                ttft.labels(*_on_off(flags)),
                duration.labels(*_on_off(flags)),
                inter[_on_off(flags)],
                tokens.labels(*_on_off(flags)),
                {
                    (outcome, protocol): requests.labels(outcome, protocol, *_on_off(flags))
                    for outcome in OUTCOMES
                    for protocol in PROTOCOLS
                },
                early.labels(*_on_off(flags)),
            )
            for flags in every_flag_set()
        }

    def _make_named(self, build: Build) -> None:
        info = self._gauge("phase5_build_info", "What runs here", Build.__slots__)
        info.labels(*(getattr(build, name) for name in Build.__slots__)).set(1)
        # With another start, all counters began anew.
        started = self._gauge("phase5_start_time_seconds", "Start, since 1970", ())
        started.set(self._live.clocks.wall())
        self.unclean_starts = self._counter(
            "phase5_unclean_starts", "1 where the last life ended untold", ()
        )
        self._epoch = self._gauge("phase5_flag_epoch", "Epoch of a flag", ("flag",))
        self._percentage = self._gauge("phase5_flag_percentage", "Share that serves", ("flag",))
        self._held = self._gauge("phase5_flag_held", "1 while its rollout is on hold", ("flag",))
        self._reloads = self._counter("phase5_reloads", "Configuration reloads", ("outcome",))
        for outcome in ("applied", "refused"):
            self._reloads.labels(outcome)
        self.swap_seconds = Histogram(
            "phase5_reload_swap_seconds",
            "How long the event loop stood still for a reload",
            buckets=SWAP_BUCKETS,
            registry=self.registry,
        )
        self._read("phase5_streams_in_flight", "Streams admitted, not ended", self._live.streams)
        self._read("phase5_streams_waiting", "Streams in the queue", self._live.waiting)
        self._read("phase5_concurrency_limit", "Streams that may run at once", self._live.limit)

    def _make_required(self) -> None:
        """The ten names of the requirements; `qos_violations_total` is made already."""
        now, recent = self._live.clocks.now, self._recent
        self._read("ttft_p95_ms", "P95 TTFT, last minute", lambda: recent.ttft_p95_ms(now()))
        self._read(
            "throughput_rps",
            "Completed requests a second",
            lambda: recent.rps(now()),
        )
        self._read("throughput_tps", "Output tokens a second", lambda: recent.tps(now()))
        self._read("concurrent_streams", "Active streams", self._live.streams)
        self._read("error_rate", "Share of errors, last minute", lambda: recent.error_rate(now()))
        self._read("http2_connections", "HTTP/2 connections open now", self._live.connections)
        self._read("ttft_pipeline_hits", "Cache hit rate", lambda: recent.hit_rate(now()))
        self._read("pid_concurrency_limit", "Current limit", self._live.limit)
        # A gauge, since a counter would be served as remediations_executed_total.
        self.remediations = self._gauge("remediations_executed", "Automatic remediations", ())

    def _counter(self, name: str, text: str, labels: Iterable[str]) -> Counter:
        return Counter(name, text, tuple(labels), registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Iterable[str]) -> Gauge:
        return Gauge(name, text, tuple(labels), registry=self.registry)

    def _read(self, name: str, text: str, value: Callable[[], float]) -> None:
        self._gauge(name, text, ()).set_function(value)

    def _histogram(self, name: str, buckets: tuple[float, ...]) -> Histogram:
        text = f"{name.replace('_', ' ').capitalize()} in seconds"
        full = f"phase5_{name}_seconds"
        return Histogram(full, text, FLAGS, buckets=buckets, registry=self.registry)


class _Replicas(Collector):
    """The runtime's processes, read at the scrape."""

    def __init__(self, replicas: Callable[[], list[Replica]]) -> None:
        self._replicas = replicas

    def collect(self) -> Iterator[Metric]:
        """One family for each figure, summed over the pool."""
        pool = self._replicas()
        states = GaugeMetricFamily("phase5_replicas", "Runtime processes", labels=("state",))
        for state in ReplicaState:
            states.add_metric((state.value,), sum(item.state is state for item in pool))
        yield states
        for name, text, count in (
            ("restarts", "Unplanned restarts of runtime processes", sum(r.restarts for r in pool)),
            ("replays", "Streams that went on in another process", sum(r.replayed for r in pool)),
            ("read_ahead_tokens", "Prompt tokens read ahead", sum(r.read_ahead for r in pool)),
            (
                "warm_expired",
                "Announced streams that waited too long",
                sum(r.expired for r in pool),
            ),
            ("drafted_tokens", "Tokens of drafts that were verified", sum(r.drafted for r in pool)),
            ("accepted_tokens", "Drafted tokens that held", sum(r.accepted for r in pool)),
            ("convictions", "Requests that failed the model alone", sum(r.convicted for r in pool)),
            ("cpu_seconds", "Processor time of the runtime", sum(r.cpu_seconds for r in pool)),
        ):
            yield CounterMetricFamily(f"phase5_runtime_{name}", text, value=count)
        for name, text, value in (
            ("phase5_kv_bytes", "Key-value cache of live streams", sum(r.kv_bytes for r in pool)),
            ("phase5_prefix_bytes", "Prefix store", sum(r.prefix_bytes for r in pool)),
            ("phase5_pinned_bytes", "Held for waiting streams", sum(r.pinned_bytes for r in pool)),
            (
                "phase5_gpu_bytes",
                "Held on GPUs; 0 where there is none",
                sum(r.memory_bytes for r in pool if r.device == "gpu"),
            ),
            (
                "phase5_runtime_speculating",
                "Processes in which drafts pay",
                sum(r.speculating for r in pool),
            ),
        ):
            yield GaugeMetricFamily(name, text, value=value)


def _on_off(flags: FlagSet) -> tuple[str, ...]:
    """The values of the flag labels, in the order of `FLAGS`."""
    return tuple("on" if flag in flags else "off" for flag in FLAGS)
