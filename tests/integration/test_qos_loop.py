"""A real engine whose runtime is really slow for a while, and what it does about it."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from probe import Probe, Samples, body, eventually, full, probing, total
from receiver import receiving
from served import PATIENCE, until

pytestmark = pytest.mark.alone

#: Above what `tiny` takes on a busy machine, below what a stopped process costs.
LIMIT_MS = 1600  # an edge of the buckets in which the engine counts
STOPPED_SECONDS, RUNNING_SECONDS = 2.5, 0.2
#: A stream each 50 ms, of which each stop delays fifty.
PACE_SECONDS, STREAMS = 0.05, 4_000
#: A twentieth of what a window holds at that pace, and some: the 95th percentile is slow.
ENOUGH = 10

LOOP = f"""
qos:
  evaluation_seconds: 1
  window_seconds: 6
  min_samples: 10
  policies:
    - name: slow
      metric: ttft_p95_ms
      max: {LIMIT_MS}
      severity: critical
      remediation: {{action: throttle, factor: 0.5}}
    - name: told
      metric: ttft_p95_ms
      max: {LIMIT_MS}
      remediation: {{action: alert}}
  remediation: {{cooldown_seconds: 1, settle_seconds: 2}}
"""


class Traffic:
    """Streams at a steady pace, whatever becomes of those before."""

    def __init__(self, probe: Probe) -> None:
        self._over = threading.Event()
        limits = httpx.Limits(max_connections=64)
        self._client = httpx.Client(base_url=probe.url, timeout=PATIENCE, limits=limits)
        self.answers: Counter[int] = Counter()

    def _ask(self) -> None:
        answer = self._client.post("/v1/completions", content=body("Paris", 4))
        self.answers[answer.status_code] += 1

    @contextmanager
    def flowing(self) -> Iterator[None]:
        with self._client, ThreadPoolExecutor(64) as pool:
            asked: list[Future[None]] = []
            pacer = threading.Thread(target=self._pace, args=(pool, asked))
            pacer.start()
            try:
                yield
            finally:
                self._over.set()
                pacer.join()
            for each in asked:
                each.result()

    def _pace(self, pool: ThreadPoolExecutor, asked: list[Future[None]]) -> None:
        for _ in range(STREAMS):
            if self._over.wait(PACE_SECONDS):
                return
            asked.append(pool.submit(self._ask))


@contextmanager
def slowed(process: psutil.Process) -> Iterator[None]:
    """A process that stands still most of the time, for as long as it lives."""
    over = threading.Event()

    def cycle() -> None:
        with suppress(psutil.NoSuchProcess):
            for _ in range(int(PATIENCE / STOPPED_SECONDS)):
                process.suspend()
                over.wait(STOPPED_SECONDS)
                process.resume()
                if over.wait(RUNNING_SECONDS):
                    return

    thread = threading.Thread(target=cycle)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def first(probe: Probe, wanted: Callable[[Samples], bool], what: str) -> Samples:
    """Scrape until it is so; returns that scrape."""
    seen: list[Samples] = []

    def check() -> bool:
        seen.append(probe.samples())
        return wanted(seen[-1])

    eventually(check, what)
    return seen[-1]


def reaches(probe: Probe, name: str, value: float, **labels: str) -> Samples:
    """The first scrape in which a metric is so high."""
    what = f"{name} {labels} at least {value}"
    return first(probe, lambda seen: total(seen, name, **labels) >= value, what)


def slow_streams(samples: Samples) -> float:
    """How many streams had their first text after the limit."""
    name = "phase5_time_to_first_token_seconds"
    fast = total(samples, f"{name}_bucket", le=str(LIMIT_MS / 1000))
    return total(samples, f"{name}_count") - fast


def test_a_slow_runtime_is_noticed_remedied_and_its_recovery_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as receiver:
        monkeypatch.setenv("PHASE5_ALERTMANAGER_URL", f"{receiver.url}/api/v2/alerts")
        monkeypatch.setenv("PHASE5_SLACK_URL", f"{receiver.url}/slack/secret-part")
        with probing(tmp_path, LOOP, "qos_monitoring") as probe:
            traffic = Traffic(probe)
            with traffic.flowing():
                until(lambda: traffic.answers[200] > 30)
                with slowed(probe.runtime):
                    slow = first(probe, lambda seen: slow_streams(seen) >= ENOUGH, "slow")
                    found = reaches(probe, "qos_violations_total", 1, slo="slow")
                    before = total(slow, "phase5_qos_looks_total")
                    assert total(found, "phase5_qos_looks_total") - before <= 2
                    acted = reaches(probe, "remediations_executed", 2)
                    assert total(acted, "phase5_concurrency_limit") < 50
                    status: Any = probe.served.status()["qos"]
                    assert sorted(status["violations"]) == ["slow", "told"]
                reaches(probe, "phase5_concurrency_limit", 50)
                until(lambda: len(receiver.got.get("/slack/secret-part", [])) >= 2)
        assert set(traffic.answers) == {200}
        log = (tmp_path / "stderr").read_text()
    begun, *_, over = receiver.got["/api/v2/alerts"]
    assert begun[0]["labels"]["slo"] == over[0]["labels"]["slo"] == "told"
    assert over[0]["endsAt"] < begun[0]["endsAt"]  # it is over, and was to last
    assert "no longer violated" in receiver.got["/slack/secret-part"][-1]["text"]
    for words in (
        "SLO slow violated: ttft_p95_ms is",
        "executed: throttle for SLO slow",
        "limit 50 -> limit",
        "SLO slow recovered",
        "eased: throttle",
    ):
        assert words in log
    assert "secret-part" not in log
    assert "Traceback" not in log


RESTART = f"""
qos:
  evaluation_seconds: 1
  window_seconds: 6
  min_samples: 10
  policies:
    - {{name: slow, metric: ttft_p95_ms, max: {LIMIT_MS}, remediation: {{action: restart}}}}
  remediation: {{settle_seconds: 2}}
"""


def test_a_process_that_stays_slow_is_replaced_and_streams_go_on(tmp_path: Path) -> None:
    with probing(tmp_path, RESTART, "qos_monitoring") as probe:
        traffic, slow = Traffic(probe), probe.runtime
        with traffic.flowing():
            until(lambda: traffic.answers[200] > 30)
            with slowed(slow):
                reaches(probe, "qos_violations_total", 1)
                reaches(probe, "remediations_executed", 1)
                eventually(lambda: not probe.metric("phase5_slo_violated"), "it recovers")
                assert probe.runtime.pid != slow.pid
        # A start that takes long turns newcomers away; nobody who was let in is lost.
        assert set(traffic.answers) <= {200, 503}
        assert probe.metric("phase5_runtime_restarts_total") == 0  # it was asked for: no crash
        assert probe.metric("phase5_streams_ended_total", kind="error") == 0


def scaling(policies: str, replicas: int) -> str:
    """Remedies that act at once, and are judged soon."""
    return (
        f"runtime: {{replicas: {replicas}}}\n"
        "qos:\n  evaluation_seconds: 1\n  window_seconds: 6\n  min_samples: 10\n"
        f"  policies: [{policies}]\n"
        "  remediation: {max_replicas: 2, settle_seconds: 1}\n"
    )


#: No engine is that fast, however many replicas it has; and any is faster than that.
TOO_SLOW = "{name: slow, metric: ttft_p95_ms, max: 0.01, remediation: {action: scale_up}}"
TOO_FAST = "{name: fast, metric: ttft_p95_ms, min: 600000, remediation: {action: scale_down}}"


@pytest.mark.parametrize(
    ("policy", "replicas", "then", "words"),
    [
        pytest.param(TOO_SLOW, 1, 2, "1 replicas -> 2 replicas", id="scale_up"),
        pytest.param(TOO_FAST, 2, 1, "2 replicas -> 1 replicas", id="scale_down"),
    ],
)
def test_a_violation_scales_the_pool_of_real_processes(
    tmp_path: Path, policy: str, replicas: int, then: int, words: str
) -> None:
    with probing(tmp_path, scaling(policy, replicas), "qos_monitoring") as probe:

        def ready() -> int:
            states: Any = probe.served.status()["replicas"]
            return sum(one["state"] == "ready" for one in states)

        until(lambda: ready() == replicas)
        traffic = Traffic(probe)
        with traffic.flowing():
            eventually(lambda: ready() == then, f"{then} replicas are ready")
            until(lambda: len(probe.front.children()) == then)
        assert set(traffic.answers) == {200}
        assert probe.metric("phase5_streams_ended_total", kind="error") == 0
    log = (tmp_path / "stderr").read_text()
    assert words in log
    assert "Traceback" not in log


async def wave(probe: Probe, streams: int, leaving: int) -> None:
    """So many streams at once, of which some clients leave after their first chunk."""
    limits = httpx.Limits(max_connections=streams)
    async with httpx.AsyncClient(timeout=PATIENCE, limits=limits) as client:

        async def ask(number: int) -> None:
            asked = body("Paris", 2_000 if number < leaving else 16)
            url = f"{probe.url}/v1/completions"
            async with client.stream("POST", url, content=asked) as answer:
                assert answer.status_code == 200
                async for _ in answer.aiter_raw():
                    if number < leaving:
                        return

        await asyncio.gather(*(ask(number) for number in range(streams)))


def test_the_monitor_counts_what_the_registry_tells_at_10_50_and_100_streams(
    tmp_path: Path,
) -> None:
    expected = 0
    with probing(tmp_path, "admission: {limit: 100}\n", "qos_monitoring") as probe:
        for streams in (10, 50, 100) * (5 if full() else 1):
            asyncio.run(wave(probe, streams, leaving=streams // 5))
            expected += streams
            eventually(probe.idle, "every stream ends")
            settled = probe.samples()
            assert total(settled, "phase5_streams_ended_total") == expected
            assert total(settled, "phase5_streams_ended_total", kind="cancelled") > 0
            assert total(settled, "phase5_qos_streams_total") == expected
