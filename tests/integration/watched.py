"""Engines, a guard and a Prometheus in which everything that dashboards show has happened."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from fake_engine import FakeEngine, running
from http2 import PATH, prior_knowledge
from made_up_minutes import ENTERED, Clock, MadeUp, guard_on
from memory_store import MemoryStore
from monitored import prometheus
from probe import HOST, Probe, body, eventually, probing
from pyreqwest.client import Client
from served import PATIENCE

from engine.core.flags import FLAGS
from gates.engines import clients
from gates.guarding.loop import Guard
from gates.standing import Standing

GUILTY, INNOCENT = "ttft_pipeline", "qos_monitoring"

#: Both arms of what is assigned by key; what is assigned by blocks of minutes is on here, and off
#: on the other engine. Two slots, so that requests queue; a service level that nothing keeps.
TREATED = """
phase4_rollout:
  adaptive_governor: {enabled: true, rollout_percentage: 100, holdback_percentage: 0}
  http2_transport: {enabled: true, rollout_percentage: 50}
  ttft_pipeline: {enabled: true, rollout_percentage: 50}
  qos_monitoring: {enabled: true, rollout_percentage: 100, holdback_percentage: 0}
admission: {limit: 2}
governor: {min_limit: 2, max_limit: 2}
qos:
  evaluation_seconds: 0.5
  min_samples: 1
  policies:
    - {name: never_kept, metric: ttft_p95_ms, max: 0.001, remediation: {action: alert}}
"""

#: The same without a flag.
CONTROL = "admission: {limit: 2}\n"

#: Requests under way on each engine: more than run at once.
CLIENTS = 6

#: Seconds between an answer and a client's next request: the machine has more to do than this.
THINKING = 0.05

#: Few enough that each has over a tenth of its arm, and is told as a busy one.
KEYS = 8


class Pressing(threading.Thread):
    """Short streams on every engine, until it is over."""

    def __init__(self, urls: list[str], h2_url: str) -> None:
        super().__init__()
        self._urls, self._h2_url = urls, h2_url
        self._number = 0
        self.over = threading.Event()

    def run(self) -> None:
        asyncio.run(self._press())

    async def _press(self) -> None:
        limits = httpx.Limits(max_connections=None)
        async with (
            httpx.AsyncClient(timeout=PATIENCE, limits=limits) as client,
            prior_knowledge() as h2,
            asyncio.TaskGroup() as group,
        ):
            for url in self._urls:
                for _ in range(CLIENTS):
                    group.create_task(self._over_http1(client, url))
            group.create_task(self._over_http2(h2))

    async def _over_http1(self, client: httpx.AsyncClient, url: str) -> None:
        while not self.over.is_set():
            self._number += 1
            headers = {"x-phase5-key": f"key-{self._number % KEYS}"}
            prompt = body("Once " * 8, 4)
            await client.post(url + PATH, content=prompt, headers=headers)
            await asyncio.sleep(THINKING)

    async def _over_http2(self, client: Client) -> None:
        while not self.over.is_set():
            asked = client.post(self._h2_url + PATH).body_bytes(body("Once " * 8, 4))
            await (await asked.build().send()).bytes()
            await asyncio.sleep(THINKING)


@dataclass
class Guarding:
    """The real guard with minutes that are made up, since real ones take whole minutes."""

    guard: Guard
    evidence: MadeUp
    clock: Clock
    engine: FakeEngine

    def poll(self) -> None:
        self.clock.now += timedelta(minutes=1)

        async def once() -> None:
            async with clients([self.engine.url]) as engines:
                await self.guard.poll(engines)

        asyncio.run(once())

    def convict(self) -> None:
        """The guilty flag breaks, and is rolled back."""
        self.evidence.bad = {GUILTY: self.clock.closed_now() + 1}
        self.poll()
        assert self.guard.opened == 1


@contextmanager
def guarding(folder: Path) -> Iterator[Guarding]:
    """A guard that watches two flags at early."""
    flags = {
        flag: Standing(
            stage="early" if flag in {GUILTY, INNOCENT} else "off",
            enabled=flag in {GUILTY, INNOCENT},
            percentage=10.0 if flag in {GUILTY, INNOCENT} else 0.0,
            entered_at=ENTERED,
            epoch=3,
        )
        for flag in FLAGS
    }
    shares = {flag: standing.percentage for flag, standing in flags.items()}
    engine = FakeEngine(generation=7, shares=shares, commit="abc", config_sha256="def")
    evidence, clock = MadeUp(engines=(engine.engine_id,)), Clock()
    with running(engine):
        guard = guard_on(folder, MemoryStore(flags), evidence, clock)
        yield Guarding(guard, evidence, clock, engine)
        guard.ledgers.close()


@dataclass
class Asking:
    """Asks a Prometheus as Grafana does."""

    url: str
    client: httpx.Client
    begin: float

    def now(self) -> float:
        return time.time()

    def values(self, label: str, metric: str) -> list[str]:
        """As the variable of a dashboard is filled."""
        answer = self.client.get(
            f"{self.url}/api/v1/label/{label}/values", params={"match[]": metric}
        )
        found: list[str] = answer.json()["data"]
        return found

    def series(self, expr: str) -> list[list[float]]:
        """The values of every series since the beginning."""
        span = {"start": self.begin, "end": self.now(), "step": 1}
        found = self._ask("query_range", query=expr, **span)["result"]
        return [[float(value) for _, value in each["values"]] for each in found]

    def scraped(self, targets: int) -> bool:
        return len(self.series("up == 1")) == targets

    def _ask(self, what: str, **params: str | float) -> dict[str, list[dict[str, list[str]]]]:
        answer = self.client.get(f"{self.url}/api/v1/{what}", params=params)
        assert answer.status_code == 200, f"{params}: {answer.text}"
        found: dict[str, list[dict[str, list[str]]]] = answer.json()["data"]
        return found


@contextmanager
def watched(folder: Path) -> Iterator[Asking]:
    """A Prometheus that saw a crash, a violation, a lease and a rollback, and sees load."""
    with ExitStack() as stack:
        folders = [folder / name for name in ("treated", "control", "guard")]
        for each in folders:
            each.mkdir()
        engines = [probing(folders[0], TREATED, None), probing(folders[1], CONTROL)]
        with ThreadPoolExecutor() as starting:
            treated, control = starting.map(stack.enter_context, engines)
        guard = stack.enter_context(guarding(folders[2]))
        server, port = guard.guard.metrics.serve(HOST, 0)
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        targets = [urlsplit(each.url).netloc for each in (treated, control)]
        url = stack.enter_context(prometheus(folder / "data", [*targets, f"{HOST}:{port}"]))
        client = stack.enter_context(httpx.Client(timeout=PATIENCE))
        asking = Asking(url, client, time.time() - 1)
        guard.poll()
        eventually(lambda: asking.scraped(3), "every target scraped")
        pressing = Pressing([treated.url, control.url], _h2(treated))
        pressing.start()
        stack.callback(pressing.join)
        stack.callback(pressing.over.set)
        leased = client.post(f"{treated.url}/admin/lease", json={"seconds": 600})
        assert leased.json()["expires_at"], leased.text
        treated.runtime.kill()
        guard.convict()
        yield asking


def _h2(probe: Probe) -> str:
    endpoints: Any = probe.served.status()["endpoints"]
    url: str = endpoints["http2"]
    return url
