"""Flags that change while the engine runs (D16, D17): who notices, what is taken, what is told."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engine.server import reloading
from engine.server.reloading import FileChange
from engine.server.settings import look


def rollout(generation: int, percentage: float, more: str = "") -> str:
    return (
        f"generation: {generation}\nphase4_rollout:\n"
        f"  ttft_pipeline: {{enabled: true, rollout_percentage: {percentage}{more}}}\n"
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "runtime.yaml"
    path.write_text("generation: 1\n")
    return path


def changes(change: FileChange, looks: int = 4) -> int:
    return sum(change.poll() for _ in range(looks))


def in_place(file: Path) -> None:
    file.write_text("generation: 2\n")


def renamed(file: Path) -> None:
    other = file.with_suffix(".new")
    other.write_text("generation: 2\n")
    other.rename(file)


def gone(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("edit", [in_place, renamed, gone])
def test_a_change_is_told_once(file: Path, edit: Callable[[Path], None]) -> None:
    change = FileChange(file, look(file))
    assert changes(change) == 0
    edit(file)
    assert changes(change) == 1


def test_an_edit_of_the_same_length_at_the_same_time_is_a_change(file: Path) -> None:
    change = FileChange(file, look(file))
    before = file.stat()
    file.write_text("generation: 9\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert changes(change) == 1


def test_a_swapped_link_of_a_folder_is_a_change_also_with_the_same_content(tmp_path: Path) -> None:
    """As Kubernetes does it: runtime.yaml -> ..data/runtime.yaml, ..data -> a dated folder."""
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "runtime.yaml").write_text("generation: 1\n")
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "runtime.yaml").symlink_to("..data/runtime.yaml")
    change = FileChange(tmp_path / "runtime.yaml", look(tmp_path / "runtime.yaml"))
    assert changes(change) == 0
    (tmp_path / "..new").symlink_to("two")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert changes(change) == 1


def test_half_a_file_is_not_taken_for_a_change(file: Path) -> None:
    change = FileChange(file, look(file))
    file.write_text("gener")
    assert not change.poll()
    file.write_text("generation: 2\n")
    assert not change.poll()
    assert change.poll()


def test_a_file_that_was_read_otherwise_is_no_change(file: Path) -> None:
    change = FileChange(file, look(file))
    in_place(file)
    assert not change.poll()
    change.taken()
    assert changes(change) == 0


async def reloaded(bench: Any, text: str) -> dict[str, Any]:
    """Reload this text by request; the flag as the status shows it then."""
    bench.engine.settings.path.write_text(text)
    await bench.engine.reloads.attempt("request")
    flag: dict[str, Any] = bench.engine.settings.flag_view("ttft_pipeline")
    return flag


def shown(bench: Any, *texts: str) -> list[tuple[float, str]]:
    async def story() -> list[tuple[float, str]]:
        flags = [await reloaded(bench, text) for text in texts]
        return [(flag["effective"], flag["stage"]) for flag in flags]

    return asyncio.run(story())


def test_a_stale_file_lowers_and_never_raises(make_bench: Any) -> None:
    bench = make_bench(rollout(5, 10), flags=None)
    told = shown(bench, rollout(4, 50), rollout(4, 1), rollout(4, 10), rollout(6, 50))
    assert told == [(10, "early"), (1, "canary"), (1, "canary"), (50, "mid")]


def test_a_stale_file_leaves_the_generation_and_says_so(make_bench: Any) -> None:
    bench = make_bench(rollout(5, 10, ", epoch: 3"), flags=None)
    shown(bench, rollout(4, 1, ", epoch: 2"))
    status = bench.get("/v1/status").json()
    assert status["generation"] == 5
    assert status["flags"]["ttft_pipeline"]["epoch"] == 3
    assert status["reload"]["outcome"] == "applied"
    assert "generation 4 is below 5" in status["reload"]["reason"]


def test_a_raise_at_the_same_generation_serves_as_unmanaged(make_bench: Any) -> None:
    bench = make_bench(rollout(5, 1), flags=None)
    told = shown(bench, rollout(5, 50, ", stage: mid"), rollout(6, 50), rollout(6, 10))
    assert told == [(50, "unmanaged"), (50, "mid"), (10, "early")]


def test_a_stream_keeps_its_flags_and_the_next_follows_the_new_ones(
    make_bench: Any, fake_runtime: Any
) -> None:
    runtime = fake_runtime(held=True)
    bench = make_bench(rollout(1, 0), flags=None, runtime=runtime)
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Where?"}]}

    async def story() -> list[str]:
        async with bench.client() as client:
            ask = [asyncio.create_task(client.post("/v1/chat/completions", json=body))]
            await until(lambda: len(runtime.live) == 1)
            await reloaded(bench, rollout(2, 100, ", holdback_percentage: 0"))
            ask.append(asyncio.create_task(client.post("/v1/chat/completions", json=body)))
            await until(lambda: len(runtime.live) == 2)
            for uid in (1, 2):
                runtime.tell(uid, "Paris", "length")
            return [(await each).headers["x-phase5-flags"] for each in ask]

    assert asyncio.run(story()) == ["off", "ttft_pipeline"]
    assert bench.metric("phase5_requests_total", outcome="ok", ttft_pipeline="off") == 1
    assert bench.metric("phase5_requests_total", outcome="ok", ttft_pipeline="on") == 1
    assert bench.metric("phase5_reload_swap_seconds_count") == 1


def test_half_the_keys_of_one_engine_are_in_at_half(make_bench: Any) -> None:
    """D16: a flag was evaluated once for a whole process."""
    bench = make_bench(rollout(1, 50), flags=None)
    arms = [bench.engine.features.assign(f"key {n}", 0.0) for n in range(400)]
    assert 150 < sum(bool(arm) for arm in arms) < 250


def watching(bench: Any, story: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        watch = asyncio.create_task(bench.engine.reloads.watch())
        try:
            await asyncio.wait_for(story(), 30)
        finally:
            watch.cancel()

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.001)


def test_bad_content_is_refused_once_and_good_content_is_taken(
    make_bench: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reloading, "POLL_SECONDS", 0.001)
    bench = make_bench(rollout(1, 1), flags=None)
    path, reloads = bench.engine.settings.path, bench.engine.reloads
    polls = 0
    poll = reloads._change.poll

    def counted() -> bool:
        nonlocal polls
        polls += 1
        return bool(poll())

    monkeypatch.setattr(reloads._change, "poll", counted)

    async def story() -> None:
        path.write_text("generation: [\n")
        await until(lambda: reloads.last is not None)
        seen = polls
        await until(lambda: polls > seen + 10)
        path.write_text(rollout(2, 50))
        await until(lambda: reloads.last.outcome == "applied")

    with caplog.at_level(logging.WARNING):
        watching(bench, story)
    refusals = [line for line in caplog.messages if "refused" in line]
    assert len(refusals) == 1
    assert str(path) in refusals[0]
    assert bench.metric("phase5_reloads_total", outcome="refused") == 1
    assert bench.metric("phase5_reloads_total", outcome="applied") == 1
    assert bench.engine.settings.states()["ttft_pipeline"].percentage == 50


def test_a_file_that_changed_while_the_engine_started_is_taken(
    make_bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloading, "POLL_SECONDS", 0.001)
    bench = make_bench(rollout(1, 1), flags=None)
    bench.engine.settings.path.write_text(rollout(2, 50))
    watching(bench, lambda: until(lambda: bench.engine.reloads.last is not None))
    assert bench.engine.settings.states()["ttft_pipeline"].percentage == 50


def test_a_file_that_stays_as_it_is_reloads_nothing(
    make_bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloading, "POLL_SECONDS", 0.001)
    bench = make_bench(rollout(1, 1), flags=None)
    bench.get("/v1/status")

    async def story() -> None:
        for _ in range(20):
            await asyncio.to_thread(bench.engine.reloads._change.poll)

    watching(bench, story)
    assert bench.engine.reloads.last is None
