"""A real engine whose runtime is really slow for a while, and what it does about it."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from probe import Probe, Samples, body, eventually, full, probing, total
from receiver import receiving
from served import PATIENCE, until

#: Above what `tiny` takes on a busy machine, below what a stopped process costs.
LIMIT_MS = 800
STOPPED_SECONDS, RUNNING_SECONDS = 1.6, 0.2
#: A stream each 50 ms, of which each stop delays thirty.
PACE_SECONDS, STREAMS = 0.05, 4_000

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
        self._url = f"{probe.url}/v1/completions"
        self._over = threading.Event()
        self.ended = 0
        self.slow = threading.Event()

    def _ask(self) -> None:
        began = time.monotonic()
        answer = httpx.post(self._url, content=body("Paris", 4), timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        self.ended += 1
        if time.monotonic() - began > LIMIT_MS / 1000:
            self.slow.set()

    @contextmanager
    def flowing(self) -> Iterator[None]:
        with ThreadPoolExecutor(64) as pool:
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
    """A process that stands still most of the time; it runs on afterwards."""
    over = threading.Event()

    def cycle() -> None:
        for _ in range(int(PATIENCE / STOPPED_SECONDS)):
            os.kill(process.pid, signal.SIGSTOP)
            over.wait(STOPPED_SECONDS)
            os.kill(process.pid, signal.SIGCONT)
            if over.wait(RUNNING_SECONDS):
                return

    thread = threading.Thread(target=cycle)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def reaches(probe: Probe, name: str, value: float, **labels: str) -> Samples:
    """Scrape until a metric has a value; returns that scrape."""
    seen: list[Samples] = []

    def check() -> bool:
        seen.append(probe.samples())
        return total(seen[-1], name, **labels) == value

    eventually(check, f"{name} {labels} is {value}")
    return seen[-1]


def test_a_slow_runtime_is_noticed_remedied_and_its_recovery_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as receiver:
        monkeypatch.setenv("PHASE5_ALERTMANAGER_URL", f"{receiver.url}/api/v2/alerts")
        monkeypatch.setenv("PHASE5_SLACK_URL", f"{receiver.url}/slack/secret-part")
        with probing(tmp_path, LOOP, "qos_monitoring") as probe:
            traffic = Traffic(probe)
            with traffic.flowing():
                until(lambda: traffic.ended > 30)
                assert probe.metric("qos_violations_total") == 0
                with slowed(probe.runtime):
                    traffic.slow.wait(PATIENCE)
                    before = probe.metric("phase5_qos_looks_total")
                    found = reaches(probe, "qos_violations_total", 1, slo="slow")
                    assert total(found, "phase5_qos_looks_total") - before <= 2
                    acted = reaches(probe, "remediations_executed", 2)
                    assert total(acted, "phase5_remediations_total", outcome="executed") == 2
                    assert total(acted, "phase5_concurrency_limit") < 50
                    status: Any = probe.served.status()["qos"]
                    assert sorted(status["violations"]) == ["slow", "told"]
                reaches(probe, "phase5_slo_violated", 0)
                reaches(probe, "phase5_concurrency_limit", 50)
                until(lambda: len(receiver.got.get("/slack/secret-part", [])) >= 2)
        log = (tmp_path / "stderr").read_text()
    first, *_, last = receiver.got["/api/v2/alerts"]
    assert first[0]["labels"]["slo"] == last[0]["labels"]["slo"] == "told"
    assert last[0]["endsAt"] < first[0]["endsAt"]  # it is over, and was to last
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
            settled = reaches(probe, "phase5_streams_in_flight", 0)
            assert total(settled, "phase5_streams_ended_total") == expected
            assert total(settled, "phase5_streams_ended_total", kind="cancelled") > 0
            assert total(settled, "phase5_qos_streams_total") == expected
