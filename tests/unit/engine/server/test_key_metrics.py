import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from engine.core.flags import FLAGS
from engine.server.admin import TOKEN_VARIABLE
from engine.server.key_metrics import KeyMetrics
from engine.server.parts import Clocks

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
KEY = "customer-4711"
FIRST_TOKENS = "phase5_time_to_first_token_seconds_count"


def asked(bench: Any, key: str, times: int = 1, **body: Any) -> None:
    for _ in range(times):
        answer = bench.post(**{**CHAT, **body}, headers={"x-phase5-key": key})
        assert answer.status_code == (200 if not body else 404)


def told(metrics: KeyMetrics, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for family in metrics.collect()
        for sample in family.samples
        if sample.name == name
    }


def busy(metrics: KeyMetrics) -> set[str]:
    for _ in range(60):
        metrics.ended(KEY, frozenset(), "ok", 0.0)
    return {labels[2] for labels in told(metrics, "phase5_busiest_key_requests_total")}


def test_every_child_of_known_labels_is_there_before_the_first_request(make_bench: Any) -> None:
    text = make_bench().get("/metrics").text
    for name in ("phase5_new_keys_total", "phase5_bad_squares_total"):
        assert text.count(f"\n{name}{{") == 2 * len(FLAGS)
    assert text.count("\nphase5_early_cancels_total{") == 2 ** len(FLAGS)
    assert "\nphase5_busiest_key_requests_total{" not in text


def test_new_keys_are_counted_in_the_arm_they_are_in(make_bench: Any) -> None:
    bench = make_bench(flags=frozenset({"ttft_pipeline"}))
    asked(bench, "one", 2)
    asked(bench, "two")
    new = {
        arm: bench.metric("phase5_new_keys_total", flag="ttft_pipeline", arm=arm)
        for arm in ("treatment", "control")
    }
    assert new == {"treatment": 2, "control": 0}
    assert bench.metric("phase5_new_keys_total", flag="qos_monitoring", arm="control") == 2


def test_without_a_key_of_its_own_a_conversation_is_one(make_bench: Any) -> None:
    bench = make_bench()
    for _ in range(3):
        bench.post(**CHAT)
    assert bench.metric("phase5_new_keys_total", flag="ttft_pipeline") == 1


def test_a_busy_key_is_told_and_its_text_is_nowhere(make_bench: Any) -> None:
    bench = make_bench()
    asked(bench, KEY, 55)
    text = bench.get("/metrics").text
    assert bench.metric("phase5_busiest_key_requests_total", flag="ttft_pipeline") == 55
    assert KEY not in text


def test_errors_of_one_key_are_squared() -> None:
    metrics = KeyMetrics(b"secret")
    for outcome in ("failed", "cut", "ok", "shed"):
        metrics.ended(KEY, frozenset({"ttft_pipeline"}), outcome, 0.0)
    metrics.ended("another", frozenset({"ttft_pipeline"}), "failed", 0.0)
    squares = told(metrics, "phase5_bad_squares_total")
    assert squares["ttft_pipeline", "treatment"] == 5
    assert squares["ttft_pipeline", "control"] == 0


def test_engines_with_one_admin_token_name_a_key_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "a token of the fleet")
    one, other = busy(KeyMetrics.from_environment()), busy(KeyMetrics.from_environment())
    assert one == other
    monkeypatch.setenv(TOKEN_VARIABLE, "another token")
    assert busy(KeyMetrics.from_environment()).isdisjoint(one)


def test_without_a_token_nobody_can_guess_a_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    one, other = busy(KeyMetrics.from_environment()), busy(KeyMetrics.from_environment())
    assert one.isdisjoint(other)


async def leaves(bench: Any, before: Callable[[int], Awaitable[None]]) -> None:
    """A client whose stream runs, then something happens, then it leaves."""
    uid = len(bench.runtime.submitted) + 1
    async with bench.client() as client, asyncio.timeout(30):
        asked = client.post("/v1/chat/completions", json={**CHAT, "stream": True})
        request = asyncio.create_task(asked)
        while uid not in bench.runtime.live:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0)
        await before(uid)
        bench.leave(0)
        await asyncio.gather(request, return_exceptions=True)


def test_cancels_before_the_first_token_are_told_apart(make_bench: Any, fake_runtime: Any) -> None:
    bench = make_bench(runtime=fake_runtime(held=True))

    async def nothing(_: int) -> None:
        pass

    async def a_first_token(uid: int) -> None:
        bench.runtime.tell(uid, "Paris")
        while not bench.metric(FIRST_TOKENS):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0)

    asyncio.run(leaves(bench, nothing))
    assert bench.metric("phase5_early_cancels_total") == 1
    asyncio.run(leaves(bench, a_first_token))
    assert bench.metric("phase5_early_cancels_total") == 1
    assert bench.metric("phase5_requests_total", outcome="cancelled") == 2


@pytest.mark.parametrize(("seconds", "slow"), [(0.5, 0), (0.6, 1)])
def test_a_wait_over_the_limit_counts_however_it_ends_and_whatever_the_governor_aims_at(
    make_bench: Any, fake_runtime: Any, seconds: float, slow: int
) -> None:
    now = 100.0
    clocks = Clocks(now=lambda: now, wall=lambda: 1000.0)
    yaml = "governor: {target_ttft_ms: 5000}\n"
    bench = make_bench(yaml, runtime=fake_runtime(held=True), clocks=clocks)

    async def time(_: int) -> None:
        nonlocal now
        now += seconds

    asyncio.run(leaves(bench, time))
    assert bench.metric(FIRST_TOKENS) == slow
