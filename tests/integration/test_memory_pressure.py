"""A real engine under a memory budget that its load does not keep."""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import httpx
import psutil
import pytest
from served import PATIENCE, Served, serving, until

pytestmark = pytest.mark.alone

#: Kept prefixes and the caches of the streams below take several times this.
ROOM_BYTES = 32 * 1024 * 1024
LIMIT = 8
#: Most of a context, so that a stream holds much; the second half differs.
SHARED, OWN, OUTPUT = 4_000, 3_000, 64


def idle_bytes(folder: Path) -> int:
    """What a runtime process holds that has served one request."""
    folder.mkdir()
    with serving(folder) as served:
        ask(served, "x", 2)
        (child,) = served.children()
        return int(child.memory_info().rss)


def ask(served: Served, prompt: str, output: int) -> httpx.Response:
    body = {"model": "tiny", "prompt": prompt, "max_tokens": output, "ignore_eos": True}
    return httpx.post(f"{served.url}/v1/completions", json=body, timeout=PATIENCE)


class Load:
    """Clients that ask again and again, and come back later when they are told to."""

    def __init__(self, served: Served) -> None:
        self.answers: Counter[str] = Counter()
        self._served = served
        self._over = Event()

    @contextmanager
    def running(self, clients: int) -> Iterator[None]:
        with ThreadPoolExecutor(clients) as pool:
            ends: list[Future[None]] = [pool.submit(self._client, n) for n in range(clients)]
            try:
                yield
            finally:
                self._over.set()
            for end in ends:
                end.result()

    def _client(self, number: int) -> None:
        turn = 0
        while not self._over.is_set():
            turn += 1
            own = f"{number}-{turn} " * OWN
            answer = ask(self._served, "y" * SHARED + own[:OWN], OUTPUT)
            if answer.status_code == 200:
                assert answer.json()["usage"]["completion_tokens"] == OUTPUT
                self.answers["ok"] += 1
            else:
                assert "retry-after" in answer.headers, answer.text
                self.answers[answer.json()["error"]["code"]] += 1
                self._over.wait(1)


def memory(served: Served) -> dict[str, int | str]:
    document = served.status()["memory"]
    assert isinstance(document, dict)
    return document


def metric(served: Served, sample: str) -> float:
    lines = httpx.get(f"{served.url}/metrics", timeout=PATIENCE).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{sample} "))


def actions(served: Served, action: str) -> float:
    return metric(served, f'phase5_memory_actions_total{{action="{action}"}}')


def test_under_pressure_an_engine_serves_on_and_recovers(tmp_path: Path) -> None:
    budget = idle_bytes(tmp_path / "idle") + ROOM_BYTES
    config = (
        f"runtime: {{memory_bytes: {budget}}}\n"
        # On a busy machine half of the streams at once take their time.
        f"admission: {{limit: {LIMIT}, deadline_seconds: {PATIENCE}}}\n"
    )
    #: The whole ladder takes three quarters of a minute.
    last = "renew" if os.environ.get("PHASE5_FULL") else "shrink"
    with serving(tmp_path, "ttft_pipeline", config=config) as served:
        load = Load(served)
        with load.running(clients=LIMIT + 2):
            until(lambda: actions(served, last) > 0)
            so_far = load.answers["ok"]
            until(lambda: load.answers["ok"] > so_far + 2)
            assert metric(served, "phase5_memory_budget_bytes") == budget
            assert metric(served, "phase5_concurrency_limit") <= LIMIT
        assert actions(served, "evict") > 0
        assert set(load.answers) <= {"ok", "memory_pressure"}
        (child,) = served.children()
        assert psutil.pid_exists(child.pid)
        until(lambda: memory(served)["rung"] == "rest")
        assert int(memory(served)["bytes"]) < budget
        until(lambda: served.status()["limit"] == LIMIT)
        assert ask(served, "x", 2).status_code == 200
    assert "Traceback" not in (tmp_path / "stderr").read_text()
