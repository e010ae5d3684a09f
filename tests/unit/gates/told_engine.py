"""An engine's real metrics over a clock and traffic of the test's own."""

from dataclasses import dataclass, field, replace

from engine.core.flags import FLAGS, FlagSet
from engine.runtime.interface import Replica, ReplicaState
from engine.server.metrics import DURATION_BUCKETS, TTFT_BUCKETS, Build, Live, Metrics
from engine.server.parts import Clocks
from engine.server.recent import Ended
from gates.exposition import Sample, Scrape, known
from gates.ledger import Header, Unit

FLAG = "ttft_pipeline"
ON: FlagSet = frozenset({FLAG})
OFF: FlagSet = frozenset()

#: A minute since 1970 at which tests begin.
FIRST = 29_000_000

HEADER = Header(
    flag=FLAG,
    epoch=3,
    stage="canary",
    share=0.2,
    unit=Unit.KEY,
    commit="c0ffee",
    config_sha256="def",
    ttft_edges=TTFT_BUCKETS,
    latency_edges=DURATION_BUCKETS,
)

_REPLICA = Replica(
    pid=1,
    state=ReplicaState.READY,
    streams=0,
    restarts=0,
    blas="",
    device="",
    kv_bytes=0,
    prefix_bytes=0,
)


@dataclass
class ToldEngine:
    """What it counted so far; `wall` is its clock."""

    name: str = "e1"
    commit: str = "c0ffee"
    config: str = "def"
    model: str = "mmm"
    wall: float = FIRST * 60.0
    restarts: int = 0
    metrics: Metrics = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin anew, with every counter at 0."""
        live = Live(
            clocks=Clocks(now=lambda: self.wall, wall=lambda: self.wall),
            streams=lambda: 0,
            waiting=lambda: 0,
            limit=lambda: 50,
            connections=lambda: 0,
            replicas=lambda: [replace(_REPLICA, restarts=self.restarts)],
        )
        build = Build("1", self.commit, "tiny", self.model, self.config, self.name)
        self.metrics = Metrics(live, build, [])
        for flag in FLAGS:
            self.metrics.set_flag(flag, 20.0, 3, held=False)

    def serve(
        self, flags: FlagSet, n: int, outcome: str = "ok", *, ttft: float = 0.1, key: str = "k"
    ) -> None:
        """So many requests that ended."""
        for number in range(n):
            first = None if outcome == "shed" else ttft
            arm = self.metrics.arm(flags)
            if first is not None:
                arm.ttft.observe(first)
            if outcome == "ok":
                arm.duration.observe(ttft)
            ended = Ended(
                now=self.wall, outcome=outcome, ttft=first, tokens=1, pipeline=False, hit=False
            )
            self.metrics.ended(flags, "http1", ended, f"{key}{number}")

    def text(self) -> str:
        """`/metrics`."""
        return self.metrics.scrape().decode()

    def scrape(self, minute: int, *, age: float = 2.0, target: str | None = None) -> Scrape:
        """As it is, told shortly before a minute's edge: what `text` parses to, made faster."""
        samples = (
            Sample(sample.name, sample.labels, float(sample.value))
            for family in self.metrics.registry.collect()
            for sample in family.samples
        )
        return Scrape(
            target=target or f"{self.name}:8000",
            at=minute * 60 - age,
            samples=tuple(known(samples)),
        )
