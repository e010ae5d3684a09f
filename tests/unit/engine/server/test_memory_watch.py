import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.core.pressure import COOL_DOWN_SECONDS, SHED_SECONDS, TRY_SECONDS, Rung
from engine.runtime.interface import RuntimeStartError
from engine.server.machine import SHARE, installed, process_budget
from engine.server.memory import ACTIONS, LOOK_SECONDS, MemoryWatch

BUDGET = 1_000_000
YAML = f"runtime: {{memory_bytes: {BUDGET}}}\nadmission: {{limit: 8}}\n"
ASK = {"model": "tiny", "prompt": "Where?"}
LOW, HIGH = BUDGET // 2, BUDGET + 1


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A memory watch whose time and readings are ours."""

    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime
        self.clock = Clock()
        self.watch = MemoryWatch(runtime, BUDGET, 4, self.clock)

    def read(self, held: int, seconds: float = 1.0) -> bool:
        """Readings for so long; whether a renewal was asked for."""
        self.runtime.memory_bytes = held
        renew = False
        for _ in range(int(seconds)):
            renew = self.watch.look(8) or renew
            self.clock.now += 1.0
        return renew

    def until(self, rung: Rung, held: int = HIGH) -> None:
        for _ in range(10_000):
            if self.watch.view()["rung"] == rung.value:
                return
            self.read(held)
        raise AssertionError(f"{rung} was never reached")


@pytest.fixture
def watched(fake_runtime: Any) -> Watched:
    return Watched(fake_runtime())


def test_below_the_budget_the_runtime_is_left_alone(watched: Watched) -> None:
    assert not watched.read(LOW, 1_000)
    assert watched.runtime.evicted == []
    assert watched.watch.capped(8) == 8
    assert watched.watch.view() == {"bytes": LOW, "budget": BUDGET, "rung": "rest"}


def test_a_memory_that_is_not_known_is_no_reason_to_act(watched: Watched) -> None:
    assert not watched.read(0, 1_000)
    assert watched.runtime.evicted == []


def test_a_budget_that_cannot_be_read_now_stays_what_it_was(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def blind(*_: Any, **__: Any) -> Any:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("engine.server.memory.process_budget", blind)
    watched.read(HIGH)
    assert len(watched.runtime.evicted) == 1
    assert "cannot read what memory there is" in caplog.text


def test_the_rungs_act_one_after_the_other(watched: Watched) -> None:
    watched.read(HIGH)
    assert len(watched.runtime.evicted) == 1
    watched.read(HIGH, TRY_SECONDS)
    assert watched.watch.capped(8) == 4
    watched.read(HIGH, TRY_SECONDS)
    assert watched.watch.shed_seconds() == SHED_SECONDS - 1
    assert watched.read(HIGH, SHED_SECONDS)


def test_each_change_of_rung_is_one_line_with_both_numbers(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="engine.server.memory"):
        watched.until(Rung.SHED)
        watched.until(Rung.REST, LOW)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split()[1] for line in lines] == ["evict", "shrink", "shed", "shrink", "rest"]
    assert all(f"budget {BUDGET}" in line for line in lines)
    assert f"holds {HIGH} bytes" in lines[0]
    assert [record.levelname for record in caplog.records][-1] == "INFO"


def test_a_budget_out_of_reach_is_an_error_that_says_what_to_do(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.until(Rung.RENEW)
    watched.watch._ladder.renewed(watched.clock.now)
    watched.until(Rung.UNREACHABLE)
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "raise runtime.memory_bytes" in line
    assert not watched.read(HIGH, COOL_DOWN_SECONDS / 2)
    assert watched.watch.capped(8) == 8
    assert watched.watch.shed_seconds() == 0


def run_until(watched: Watched, renewed: Callable[[], bool]) -> None:
    """The watch's own loop, until the runtime was asked to renew."""

    async def main() -> None:
        watched.until(Rung.SHED)
        watched.clock.now += SHED_SECONDS
        task = asyncio.create_task(watched.watch.run(lambda: 8))
        async with asyncio.timeout(10):
            while not renewed():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(LOOK_SECONDS / 100)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_renewing_asks_the_runtime_and_comes_down_after_it(watched: Watched) -> None:
    run_until(watched, lambda: bool(watched.runtime.renewed))
    assert watched.runtime.renewed == 1
    assert watched.watch.view()["rung"] == "shrink"


def test_a_renewal_that_fails_is_told_and_the_ladder_goes_on(
    fake_runtime: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Stuck(fake_runtime):  # type: ignore[misc] # the fixture gives the class
        async def renew(self) -> None:
            await super().renew()
            raise RuntimeStartError("no such file")

    watched = Watched(Stuck())
    run_until(watched, lambda: "no such file" in caplog.text)
    assert watched.watch.view()["rung"] == "shrink"


def test_a_stop_gives_up_a_renewal_under_way(fake_runtime: Any) -> None:
    class Slow(fake_runtime):  # type: ignore[misc] # the fixture gives the class
        async def renew(self) -> None:
            await super().renew()
            await asyncio.Event().wait()

    slow = Slow()
    run_until(Watched(slow), lambda: bool(slow.renewed))


def test_the_largest_process_counts(fake_runtime: Any) -> None:
    class Pool(fake_runtime):  # type: ignore[misc] # the fixture gives the class
        def replicas(self) -> list[Any]:
            self.memory_bytes = LOW
            small = super().replicas()
            self.memory_bytes = HIGH
            return [*small, *super().replicas(), *small]

    watch = MemoryWatch(Pool(), BUDGET, 4, lambda: 0.0)
    watch.look(8)
    assert watch.view() == {"bytes": HIGH, "budget": BUDGET, "rung": "evict"}


def shedding_bench(make_bench: Any, fake_runtime: Any) -> Any:
    """An engine whose clock has passed the first rungs, with a process too large."""
    bench = make_bench(YAML, runtime=fake_runtime())
    bench.runtime.memory_bytes = HIGH
    # Whole seconds: those of any other start may add up to a little less than the ladder waits for.
    watch, start = bench.engine.memory, float(int(bench.engine.clocks.now()))
    for second in range(2 * int(TRY_SECONDS) + 1):
        watch._clock = lambda at=start + second: at
        watch.look(8)
    bench.engine.update_limit()
    return bench


def test_while_it_sheds_requests_get_503_with_the_time_that_is_left(
    make_bench: Any, fake_runtime: Any
) -> None:
    bench = shedding_bench(make_bench, fake_runtime)
    answer = bench.post("/v1/completions", **ASK)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == str(int(SHED_SECONDS))
    assert answer.json()["error"]["code"] == "memory_pressure"
    assert bench.metric("phase5_requests_total", outcome="shed") == 1
    assert bench.get("/readyz").status_code == 200  # a replica is ready: it is not an outage


def test_without_a_ready_replica_nothing_counts_as_shed(make_bench: Any, fake_runtime: Any) -> None:
    bench = shedding_bench(make_bench, fake_runtime)
    bench.runtime.ready = False
    assert bench.post("/v1/completions", **ASK).json()["error"]["code"] == "not_ready"
    assert bench.metric("phase5_requests_total", outcome="failed") == 1


def test_the_limit_is_the_lower_of_the_configured_and_what_memory_allows(
    make_bench: Any, fake_runtime: Any
) -> None:
    bench = shedding_bench(make_bench, fake_runtime)
    assert json.loads(bench.get("/v1/status").content)["limit"] == 4
    assert bench.metric("phase5_concurrency_limit") == 4


def test_every_series_is_there_before_anything_happened(make_bench: Any) -> None:
    bench = make_bench(YAML)
    text = bench.get("/metrics").text
    assert bench.metric("phase5_memory_budget_bytes") == BUDGET
    assert "phase5_memory_bytes 0.0" in text
    assert 'phase5_memory_rung{rung="rest"} 1.0' in text
    assert text.count("phase5_memory_rung{") == len(Rung)
    for action in ACTIONS.values():
        assert f'phase5_memory_actions_total{{action="{action}"}} 0.0' in text
    assert bench.get("/v1/status").json()["memory"]["rung"] == "rest"


def test_measures_show_in_the_metrics(make_bench: Any, fake_runtime: Any) -> None:
    bench = shedding_bench(make_bench, fake_runtime)
    assert bench.metric("phase5_memory_rung", rung="shed") == 1
    assert bench.metric("phase5_memory_rung") == 1
    assert bench.metric("phase5_memory_actions_total", action="shrink") == 1
    assert bench.metric("phase5_memory_bytes") == HIGH


def groups(root: Path, limits: dict[str, str]) -> Path:
    """A tree of control groups, and the file that names the innermost as ours."""
    for name, limit in limits.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "memory.max").write_text(f"{limit}\n")
    membership = root / "membership"
    membership.write_text(f"1:name=systemd:/\n0::/{list(limits)[-1]}\n")
    return membership


def test_the_lowest_limit_of_the_control_groups_counts(tmp_path: Path) -> None:
    membership = groups(tmp_path, {"a": "2000000", "a/b": "max", "a/b/c": "3000000"})
    assert installed(membership, tmp_path) == (2_000_000, "the control group's 2000000 bytes")


def test_without_a_limit_the_machine_counts(tmp_path: Path) -> None:
    machine, source = installed(tmp_path / "none", tmp_path)
    assert source == f"the machine's {machine} bytes"
    assert installed(groups(tmp_path, {"a": "max"}), tmp_path)[0] == machine


def test_the_processes_share_what_is_there_and_a_given_budget_is_each_ones_own() -> None:
    assert process_budget(5, 2) == (5, "runtime.memory_bytes")
    one, two = process_budget(None, 1)[0], process_budget(None, 2)[0]
    assert one // 2 == two
    assert one <= SHARE * installed()[0]
