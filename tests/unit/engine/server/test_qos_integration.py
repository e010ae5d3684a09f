"""D1: what streams show is acted on, in a whole engine whose time is given."""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

import pytest

from engine.core.aggregates import Aggregate
from engine.core.flags import FlagState
from engine.core.registry import StreamEvent
from engine.runtime.interface import RuntimeStartError
from engine.server.features import BLOCK_SECONDS
from engine.server.parts import Clocks
from engine.server.remediation import OUTCOMES

QOS = frozenset({"qos_monitoring"})


@dataclass
class Time:
    """Clocks that are set by hand."""

    at: float = 0.0

    def clocks(self) -> Clocks:
        return Clocks(now=lambda: self.at, wall=lambda: self.at)


@dataclass
class Scene:
    """An engine, its time, and streams that end in it."""

    bench: Any
    time: Time
    ids: int = field(default=0)

    @property
    def engine(self) -> Any:
        return self.bench.engine

    def stream(self, ttft: float, *, flags: frozenset[str] = QOS, n: int = 1) -> None:
        for _ in range(n):
            self.ids += 1
            registry, now = self.engine.registry, self.time.at
            registry.admit(self.ids, flags, 1, now - ttft)
            registry.start(self.ids, now - ttft)
            registry.token(self.ids, now)
            registry.complete(self.ids, now, "stop")

    def look(self, at: float | None = None) -> None:
        """One evaluation, and all that comes of it."""
        if at is not None:
            self.time.at = at

        async def act() -> None:
            async with asyncio.TaskGroup() as deeds:
                for deed in self.engine.qos.look():
                    deeds.create_task(deed)

        asyncio.run(act())

    @property
    def limit(self) -> int:
        self.engine.update_limit()
        limit: int = self.engine.dispatcher.queue.limit
        return limit

    def violate(self, at: float) -> None:
        self.time.at = at
        self.stream(9.0, n=3)
        self.look()

    def recover(self, at: float) -> None:
        """The window is full of good streams."""
        self.time.at = at
        self.stream(0.01, n=3)
        self.look()


POLICY = """
qos:
  window_seconds: 12
  min_samples: 3
  policies:
    - {{name: slow, metric: ttft_p95_ms, max: 550, remediation: {{action: {action}}}}}
  remediation: {{dry_run: {dry_run}}}
"""


def make(
    make_bench: Any,
    action: str = "throttle",
    *,
    flags: Any = QOS,
    dry_run: bool = False,
    **more: Any,
) -> Scene:
    time = Time()
    yaml = POLICY.format(action=action, dry_run=str(dry_run).lower()) + more.pop("yaml", "")
    return Scene(make_bench(yaml, flags=flags, clocks=time.clocks(), **more), time)


def test_a_violation_caps_the_limit_and_its_end_lifts_the_cap(
    make_bench: Any, caplog: pytest.LogCaptureFixture
) -> None:
    scene = make(make_bench)
    assert scene.limit == 50
    with caplog.at_level(logging.INFO):
        scene.violate(at=100)
        assert scene.limit == 35
        scene.recover(at=115)  # not a second time before it has settled
        scene.recover(at=135)
        assert scene.limit == 35
        scene.recover(at=165)
    assert scene.limit == 50
    assert scene.bench.metric("remediations_executed") == 1
    assert scene.bench.metric("phase5_remediations_total", outcome="helped") == 1
    text = caplog.text
    assert "executed: throttle for SLO slow (ttft_p95_ms is 9000, limit 550, n=3): " in text
    assert "limit 50 -> limit 35" in text
    assert "SLO slow recovered: ttft_p95_ms is 10, limit 550, n=3" in text


def test_the_cap_and_what_memory_allows_combine_by_the_least(make_bench: Any) -> None:
    scene = make(make_bench)
    scene.violate(at=100)
    scene.engine.memory._ladder._cap = 20
    assert scene.limit == 20
    scene.engine.memory._ladder._cap = 40
    assert scene.limit == 35


def test_a_throttle_that_does_not_help_is_taken_back(
    make_bench: Any, caplog: pytest.LogCaptureFixture
) -> None:
    scene = make(make_bench)
    scene.violate(at=100)
    scene.violate(at=131)
    assert scene.limit == 50
    assert scene.bench.metric("phase5_remediations_total", outcome="taken_back") == 1
    assert "taken back: throttle for SLO slow" in caplog.text


def test_nothing_happens_to_an_engine_that_keeps_its_slos(make_bench: Any) -> None:
    scene = make(make_bench)
    for at in range(100, 400, 5):
        scene.recover(at)
    assert scene.limit == 50
    assert scene.bench.metric("phase5_remediations_total") == 0
    assert scene.bench.metric("phase5_remediations_refused_total") == 0


def test_a_dry_run_only_says_what_it_would_do(
    make_bench: Any, caplog: pytest.LogCaptureFixture
) -> None:
    scene = make(make_bench, dry_run=True)
    scene.violate(at=100)
    assert scene.limit == 50
    assert "dry run: would now throttle for SLO slow" in caplog.text
    assert scene.bench.metric("phase5_remediations_total", outcome="rehearsed") == 1
    assert scene.bench.metric("remediations_executed") == 0


@pytest.mark.parametrize("action", ["scale_up", "restart"])
def test_other_levers_reach_the_runtime(make_bench: Any, action: str) -> None:
    scene = make(make_bench, action)
    scene.violate(at=100)
    moved = {"scale_up": scene.bench.runtime.scaled, "restart": [scene.bench.runtime.renewed]}
    assert moved[action] == [{"scale_up": 2, "restart": 1}[action]]


def test_a_lever_that_fails_is_logged_and_counted_and_opens_its_breaker(
    make_bench: Any, fake_runtime: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(fake_runtime):  # type: ignore[misc]  # a fixture, not a name
        async def renew(self) -> None:
            raise RuntimeStartError("no memory")

    scene = make(make_bench, "restart", runtime=Failing())
    for at in (100, 200, 300):
        scene.violate(at)
    assert "failed: restart for SLO slow" in caplog.text
    assert "no memory" in caplog.text
    assert scene.bench.metric("phase5_remediations_total", outcome="failed") == 3
    breaker = {"actuator": "runtime", "state": "open"}
    assert scene.bench.metric("phase5_remediation_breaker", **breaker) == 1
    assert scene.bench.get("/v1/status").json()["qos"] == {
        "violations": ["slow"],
        "breakers": {
            "limit": "closed",
            "replicas": "closed",
            "runtime": "open",
            "webhook": "closed",
        },
        "limit_cap": None,
    }


def test_every_child_of_every_metric_is_there_before_anything_happened(make_bench: Any) -> None:
    bench = make(make_bench).bench
    text = bench.get("/metrics").text
    for action in ("throttle", "scale_up", "scale_down", "restart", "alert"):
        for outcome in OUTCOMES:
            row = f'phase5_remediations_total{{action="{action}",outcome="{outcome}"}} 0.0'
            assert row in text
    for row in (
        'qos_violations_total{slo="slow"} 0.0',
        "remediations_executed 0.0",
        'phase5_slo_violated{slo="slow"} 0.0',
        'phase5_slo_value{slo="slow"} NaN',
        'phase5_remediation_breaker{actuator="limit",state="closed"} 1.0',
        'phase5_remediation_breaker{actuator="webhook",state="open"} 0.0',
        'phase5_remediation_cooldown_seconds{actuator="replicas"} 0.0',
        'phase5_remediations_refused_total{reason="loop"} 0.0',
        "phase5_qos_streams_total 0.0",
    ):
        assert row in text


# Which streams are looked at.


@pytest.mark.parametrize(("rate", "seen"), [(1, 12), (2, 6), (5, 3)])
def test_every_nth_stream_with_the_flag_is_looked_at(make_bench: Any, rate: int, seen: int) -> None:
    yaml = f"phase4_rollout: {{qos_monitoring: {{enabled: true, sample_rate: {rate}}}}}\n"
    scene = make(make_bench, yaml=yaml)
    scene.time.at = 100
    for _ in range(12):
        scene.stream(0.1)
        scene.stream(9.0, flags=frozenset())  # control: never looked at
    assert scene.engine.qos.monitor.observed == seen
    scene.look()
    assert scene.bench.metric("phase5_slo_violated", slo="slow") == 0


def test_d9_averages_of_streams_are_no_samples(make_bench: Any) -> None:
    scene = make(make_bench)
    told: list[Aggregate | StreamEvent] = []
    scene.engine.registry.subscribe(told.append, 1.0, 0.0)
    scene.time.at = 100
    scene.stream(0.1, n=5)
    scene.engine.registry.export(50, 101.0)
    assert [type(each) for each in told] == [Aggregate]
    assert scene.engine.qos.monitor.observed == 5


# Blocks.


def block_at(scene: Scene, *, on: bool, after: int = 0) -> int:
    """The first block from `after` on in which remedies act, or do not."""
    features = scene.engine.features
    return next(
        block
        for block in range(after, 1000)
        if features.block_on("qos_monitoring", block * BLOCK_SECONDS) is on
        and features.block_on("qos_monitoring", (block + 1) * BLOCK_SECONDS) is False
    )


HALF = "phase4_rollout: {qos_monitoring: {enabled: true, rollout_percentage: 50}}\n"


def test_a_block_without_the_flag_begins_with_what_is_configured(
    make_bench: Any, caplog: pytest.LogCaptureFixture
) -> None:
    scene = make(make_bench, yaml=HALF, flags=None)
    start = block_at(scene, on=True) * BLOCK_SECONDS
    scene.violate(start + 100)
    assert scene.limit == 35
    with caplog.at_level(logging.INFO):
        scene.look(start + BLOCK_SECONDS)
    assert scene.limit == 50
    assert "back to what is configured: limit 35 -> limit 50" in caplog.text
    scene.violate(start + BLOCK_SECONDS + 100)  # it is seen, and nothing is done
    assert scene.limit == 50
    assert scene.bench.metric("phase5_slo_violated", slo="slow") == 1


def test_replicas_go_back_as_well(make_bench: Any) -> None:
    scene = make(make_bench, "scale_up", yaml=HALF, flags=None)
    start = block_at(scene, on=True) * BLOCK_SECONDS
    scene.violate(start + 100)
    scene.look(start + BLOCK_SECONDS)
    assert scene.bench.runtime.scaled == [2, 1]


def test_with_every_block_on_nothing_is_undone_between_them(make_bench: Any) -> None:
    scene = make(make_bench)
    scene.violate(BLOCK_SECONDS - 10)
    scene.look(BLOCK_SECONDS + 1)
    assert scene.limit == 35


def test_a_flag_that_goes_off_takes_its_remedies_with_it(make_bench: Any) -> None:
    scene = make(make_bench)
    scene.violate(at=100)
    scene.engine.features.states["qos_monitoring"] = FlagState(0.0, "qos_monitoring")
    scene.look(at=105)
    assert scene.limit == 50
    assert scene.bench.metric("phase5_qos_looks_total") == 1  # and nothing is evaluated


def test_what_cannot_go_back_is_said_and_the_rest_goes_on(
    make_bench: Any, fake_runtime: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Stuck(fake_runtime):  # type: ignore[misc]  # a fixture, not a name
        async def scale(self, replicas: int) -> None:
            if replicas == 1:
                raise RuntimeStartError("stuck at two")

    scene = make(make_bench, "scale_up", yaml=HALF, flags=None, runtime=Stuck())
    start = block_at(scene, on=True) * BLOCK_SECONDS
    scene.violate(start + 100)
    scene.look(start + BLOCK_SECONDS)
    assert "cannot go back to what is configured: stuck at two" in caplog.text
    scene.violate(start + BLOCK_SECONDS + 100)
    assert scene.bench.metric("phase5_qos_looks_total") == 3


# Alerts and loops.


def test_an_alert_is_told_once_and_so_is_its_end(
    make_bench: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PHASE5_ALERTMANAGER_URL", "PHASE5_SLACK_URL"):
        monkeypatch.delenv(name, raising=False)
    scene = make(make_bench, "alert")
    for at in range(100, 400, 20):
        scene.violate(at)
    scene.recover(at=420)
    scene.recover(at=440)
    deeds = [text for text in caplog.messages if "told the log" in text]
    assert [text.split(":")[0] for text in deeds] == ["executed", "resolved"]
    assert scene.limit == 50


def test_d3_a_loop_is_said_and_opens_the_breaker(
    make_bench: Any, caplog: pytest.LogCaptureFixture
) -> None:
    scene = make(make_bench)
    for start in (100, 400, 700):
        scene.violate(start)
        for at in range(start + 20, start + 200, 20):  # helped, over, and eased
            scene.recover(at)
    assert scene.bench.metric("remediations_executed") == 2
    assert "remedies undo each other: a breaker opens" in caplog.text
    assert scene.bench.metric("phase5_remediations_refused_total", reason="loop") == 1
    breaker = {"actuator": "limit", "state": "open"}
    assert scene.bench.metric("phase5_remediation_breaker", **breaker) == 1
