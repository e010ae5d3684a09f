"""What stands above the configuration: brakes, deliveries, the lease (section 6 of the design)."""

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.core.brakes import Cause
from engine.core.flags import FLAGS, assigned
from engine.server import durable, remembering
from engine.server.parts import Clocks
from engine.server.state import EngineState, NoState, StateError, claim

ON = "{enabled: true, rollout_percentage: 10}"
FLAG, OTHER = "ttft_pipeline", "http2_transport"
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Where?"}]}


def yaml(
    generation: int, percentage: float, more: str = "", *, other: float = 10, section: str = ""
) -> str:
    return (
        f"generation: {generation}\nphase4_rollout:\n"
        f"  {FLAG}: {{enabled: true, rollout_percentage: {percentage}{more}}}\n"
        f"  {OTHER}: {{enabled: true, rollout_percentage: {other}}}\n{section}"
    )


@dataclass
class Time:
    """Two clocks that a test sets."""

    now: float = 1_000.0
    wall: float = 5_000_000.0

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds

    def clocks(self) -> Clocks:
        return Clocks(now=lambda: self.now, wall=lambda: self.wall)


@dataclass
class Machine:
    """An engine that can be restarted: its file, its state folder, and its clocks stay."""

    make: Any
    file: Path
    time: Time = field(default_factory=Time)
    state: EngineState | None = None
    bench: Any = None

    def start(self, text: str | None = None, runtime: Any = None) -> Any:
        """The engine in its next process; without a text its file is as it was."""
        self.stop()
        self.state = claim(self.file, 8080)
        text = self.file.read_text() if text is None else text
        more = {} if runtime is None else {"runtime": runtime}
        clocks = self.time.clocks()
        self.bench = self.make(text, flags=None, clocks=clocks, state=self.state, **more)
        return self.bench

    def stop(self) -> None:
        if self.state is not None:
            self.state.close()
            self.state = None

    def ask(self, path: str, **body: Any) -> dict[str, Any]:
        answer = self.bench.post(f"/admin/{path}", **body)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def deliver(self, generation: int, **flags: Any) -> dict[str, Any]:
        return self.ask("rollout", generation=generation, flags=flags)

    def flag(self, name: str = FLAG) -> dict[str, Any]:
        flag: dict[str, Any] = self.status()["flags"][name]
        return flag

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = self.bench.get("/v1/status").json()
        return document

    def reload(self, text: str) -> None:
        self.file.write_text(text)
        asyncio.run(self.bench.engine.reloads.attempt("request"))

    def look(self) -> None:
        asyncio.run(self.bench.engine.rollout.look(self.bench.engine))


@pytest.fixture
def machine(make_bench: Any, tmp_path: Path) -> Iterator[Machine]:
    made = Machine(make_bench, tmp_path / "runtime.yaml")
    yield made
    made.stop()


def all_in(percentage: float = 100) -> dict[str, Any]:
    return {"enabled": True, "rollout_percentage": percentage}


# Brakes.


def test_a_rollback_takes_every_flag_at_once_and_says_so(machine: Machine) -> None:
    machine.start(yaml(3, 50))
    told = machine.ask("rollback", cause="verdict", reason="slow")
    assert told["brakes"].keys() == set(FLAGS)
    assert told["generation"] == 3
    assert told["flags"] == machine.status()["flags"]
    for name, flag in told["flags"].items():
        assert (flag["braked"], flag["percentage"], flag["effective"]) == (True, 0, 0)
        assert (flag["brake"], flag["cause"]) == (told["brakes"][name], "verdict")
        assert machine.bench.metric("phase5_flag_braked", flag=name) == 1
        assert machine.bench.metric("phase5_flag_percentage", flag=name) == 0
    assert machine.bench.post(**CHAT).headers["x-phase5-flags"] == "off"


def test_a_rollback_of_one_flag_leaves_the_others(machine: Machine) -> None:
    machine.start(yaml(3, 50))
    told = machine.ask("rollback", flags=[FLAG])
    assert told["brakes"].keys() == {FLAG}
    assert machine.flag(OTHER)["effective"] == 10
    assert not machine.flag(OTHER)["braked"]


def test_a_rollback_may_come_again_and_changes_nothing(machine: Machine) -> None:
    machine.start(yaml(3, 50))
    first = machine.ask("rollback", flags=[FLAG, FLAG], cause="drill")
    assert machine.ask("rollback", flags=[FLAG], cause="manual")["brakes"] == first["brakes"]
    assert machine.flag()["cause"] == "drill"


def test_a_rollback_needs_no_body(machine: Machine) -> None:
    machine.start(yaml(3, 50))
    assert machine.bench.post("/admin/rollback", content=b"").status_code == 200
    assert machine.flag()["braked"]


def broken(file: Path) -> None:
    file.write_text("phase4_rollout: [")


def gone(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("spoil", [broken, gone])
def test_a_rollback_needs_no_configuration_that_can_be_read(
    machine: Machine, spoil: Callable[[Path], None]
) -> None:
    machine.start(yaml(3, 50))
    spoil(machine.file)
    asyncio.run(machine.bench.engine.reloads.attempt("file"))
    assert machine.status()["reload"]["outcome"] == "refused"
    assert machine.ask("rollback")["flags"][FLAG]["effective"] == 0
    machine.start(yaml(4, 50))
    assert machine.flag()["effective"] == 0


@pytest.mark.parametrize("text", [yaml(2, 50), yaml(3, 100), yaml(9, 50)])
def test_a_brake_outlives_restarts_whatever_the_file_says(machine: Machine, text: str) -> None:
    machine.start(yaml(3, 10))
    brakes = machine.ask("rollback")["brakes"]
    machine.reload(text)
    assert machine.flag()["effective"] == 0
    machine.start()
    assert machine.flag()["effective"] == 0
    assert {name: flag["brake"] for name, flag in machine.status()["flags"].items()} == brakes


def test_live_streams_keep_their_flags(make_bench: Any, fake_runtime: Any) -> None:
    runtime = fake_runtime(held=True)
    bench = make_bench(yaml(1, 100, ", holdback_percentage: 0"), flags=None, runtime=runtime)
    seen = asyncio.run(around_a_rollback(bench, runtime, "manual"))
    assert ["ttft_pipeline" in flags for flags in seen] == [True, False]
    assert runtime.simplified == []


def test_after_a_crash_treated_streams_go_on_without_the_feature(
    make_bench: Any, fake_runtime: Any
) -> None:
    runtime = fake_runtime(held=True)
    text = yaml(1, 100, ", holdback_percentage: 0") + "admission: {limit: 1}\n"
    bench = make_bench(text, flags=None, runtime=runtime)
    asyncio.run(around_a_rollback(bench, runtime, "crash", waiting=1))
    assert runtime.simplified == [1, 2]
    (began, waited, new) = runtime.submitted
    assert (began.reuse_prefix, began.speculate) == (True, True)
    for later in (waited, new):
        assert (later.reuse_prefix, later.speculate, later.checkpoints) == (False, False, [])


async def around_a_rollback(bench: Any, runtime: Any, cause: str, *, waiting: int = 0) -> list[str]:
    """The flags of streams that began before and behind a rollback; all end well."""
    dispatcher = bench.engine.dispatcher
    async with bench.client() as client:
        post = client.post
        asked = [
            asyncio.create_task(post("/v1/chat/completions", json=CHAT)) for _ in range(1 + waiting)
        ]
        await until(lambda: len(dispatcher.streams) == 1 + waiting and runtime.live)
        for _ in range(2):  # it may come again
            await post("/admin/rollback", json={"cause": cause})
        asked.append(asyncio.create_task(post("/v1/chat/completions", json=CHAT)))
        await until(lambda: len(dispatcher.streams) == 2 + waiting)
        for uid in range(1, 3 + waiting):
            await until(lambda uid=uid: uid in runtime.live)
            runtime.tell(uid, "Paris", "length")
        answers = [await each for each in asked]
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    flags: list[str] = [answer.headers["x-phase5-flags"] for answer in answers]
    return flags


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0)


# Where no brake can be kept.


def full(_path: Path, _data: bytes) -> None:
    raise OSError(28, "No space left on device")


def test_a_brake_that_cannot_be_kept_holds_in_memory_and_the_answer_says_so(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine.start(yaml(3, 50))
    assert machine.status()["state"] == {"durable": True, "troubles": []}
    with monkeypatch.context() as disk:
        disk.setattr(durable, "write_new", full)
        answer = machine.bench.post("/admin/rollback")
        assert answer.status_code == 507
        error = answer.json()["error"]
        assert error["code"] == "not_durable"
        assert "braked in memory, but that does not outlive a restart" in error["message"]
        assert "No space left on device" in error["message"]
        assert machine.flag()["effective"] == 0
        assert not machine.status()["state"]["durable"]
        assert machine.bench.metric("phase5_rollout_state_durable") == 0
        for _ in range(3):
            with pytest.raises(StateError):
                machine.look()
        assert len([text for text in caplog.messages if "not durable" in text]) == 1
        # Where no brake can be kept, nothing is raised either.
        machine.reload(yaml(4, 50) + f"  adaptive_governor: {ON}\n")
        assert machine.flag("adaptive_governor")["stage"] == "off"
        assert "while no brake can be kept" in machine.status()["reload"]["reason"]
        raised = {"generation": 5, "flags": {"adaptive_governor": all_in(1)}}
        assert machine.bench.post("/admin/rollout", **raised).status_code == 507
        assert machine.flag("adaptive_governor")["stage"] == "off"
    machine.look()
    assert machine.status()["state"] == {"durable": True, "troubles": []}
    brakes = {name: flag["brake"] for name, flag in machine.status()["flags"].items()}
    machine.start()
    assert {name: flag["brake"] for name, flag in machine.status()["flags"].items()} == brakes


def test_of_brakes_that_do_not_fit_the_names_are_kept_where_they_can_be(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk often takes a name, and not what explains it."""
    machine.start(yaml(3, 50))

    def no_room(path: Path, _data: bytes) -> None:
        path.touch()
        full(path, b"")

    with monkeypatch.context() as disk:
        disk.setattr(durable, "write_new", no_room)
        assert machine.bench.post("/admin/rollback").status_code == 507
    brakes = {name: flag["brake"] for name, flag in machine.status()["flags"].items()}
    machine.start()
    assert {name: flag["brake"] for name, flag in machine.status()["flags"].items()} == brakes
    assert machine.flag()["cause"] == "unknown"


def test_a_disk_that_does_not_answer_is_told_of_in_time(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.start(yaml(3, 50))
    answered = threading.Event()
    write_new = durable.write_new

    def slow(path: Path, data: bytes) -> None:
        answered.wait(30)
        write_new(path, data)

    monkeypatch.setattr(durable, "write_new", slow)
    monkeypatch.setattr(remembering, "DURABLE_SECONDS", 0.05)
    answer = machine.bench.post("/admin/rollback")
    assert answer.status_code == 507
    assert "not written within 0.05 s" in answer.json()["error"]["message"]
    assert machine.flag()["effective"] == 0
    answered.set()
    monkeypatch.setattr(remembering, "DURABLE_SECONDS", 30)
    assert machine.bench.post("/admin/rollback").status_code == 200
    machine.look()
    assert machine.status()["state"]["durable"]


def test_without_a_state_folder_every_flag_is_braked_from_the_start(machine: Machine) -> None:
    machine.file.with_name("runtime.yaml.state").write_text("in its place")
    machine.start(yaml(3, 50))
    assert machine.flag()["effective"] == 0
    assert machine.flag()["cause"] == "unknown"
    (trouble,) = machine.status()["state"]["troubles"]
    assert "runtime.yaml.state" in trouble
    answer = machine.bench.post("/admin/rollback")
    assert answer.status_code == 507
    machine.reload(yaml(4, 100))
    assert machine.flag()["effective"] == 0


def test_under_flags_nothing_is_kept_and_a_rollback_holds_while_the_engine_lives(
    make_bench: Any, tmp_path: Path
) -> None:
    bench = make_bench(flags=frozenset(FLAGS))
    assert bench.get("/v1/status").json()["flags"][FLAG]["effective"] == 100
    answer = bench.post("/admin/rollback", flags=[FLAG])
    assert answer.status_code == 200
    flags = bench.get("/v1/status").json()["flags"]
    assert (flags[FLAG]["effective"], flags[OTHER]["effective"]) == (0, 100)
    told = bench.post("/admin/rollout", generation=9, flags={OTHER: all_in(1)}).json()
    assert (told["taken"], told["flags"][OTHER]["effective"]) == (False, 100)
    assert "--flags" in told["reason"]
    assert bench.post("/admin/lease", seconds=1).json() == {"expires_at": None}
    assert [path.name for path in tmp_path.iterdir()] == ["runtime.yaml"]


def test_the_flags_page_names_only_metrics_that_are_there(make_bench: Any) -> None:
    page = Path(__file__).parents[4] / "docs/phase5/configuration/feature-flags.md"
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(phase5_\w+)", text, re.MULTILINE))
    served = make_bench().get("/metrics").text
    assert len(named) == 8
    assert [name for name in named if f"# TYPE {name} " not in served] == []


# Deliveries.


def test_a_delivery_serves_and_outlives_a_restart_with_an_older_file(machine: Machine) -> None:
    machine.start(yaml(3, 1))
    told = machine.deliver(7, **{FLAG: {**all_in(10), "stage": "early", "epoch": 4}})
    assert (told["taken"], told["reason"], told["generation"]) == (True, None, 7)
    assert told["flags"][FLAG]["effective"] == 10
    machine.start()
    flag = machine.flag()
    assert (flag["effective"], flag["stage"], flag["epoch"]) == (10, "early", 4)
    assert not flag["unmanaged"]
    assert machine.status()["generation"] == 7
    assert machine.bench.metric("phase5_generation") == 7
    assert machine.bench.metric("phase5_flag_epoch", flag=FLAG) == 4
    assert machine.flag(OTHER)["effective"] == 10


def test_keys_that_a_delivery_does_not_give_stay(machine: Machine) -> None:
    machine.start(yaml(3, 1, ", salt: spring, epoch: 2"))
    machine.deliver(4, **{FLAG: {"rollout_percentage": 10, "held": "a doubt"}})
    config = machine.bench.engine.settings.config.phase4_rollout.flag(FLAG)
    assert (config.salt, config.epoch, config.rollout_percentage) == ("spring", 2, 10)
    assert machine.flag()["held"] == "a doubt"


def test_a_delivery_of_a_lower_generation_lowers_and_never_raises(machine: Machine) -> None:
    machine.start(yaml(5, 10))
    raised = machine.deliver(4, **{FLAG: all_in(50)})
    assert not raised["taken"]
    assert "generation 4 is below 5" in raised["reason"]
    assert raised["flags"][FLAG]["effective"] == 10
    lowered = machine.deliver(4, **{FLAG: all_in(1)})
    assert (lowered["taken"], lowered["generation"]) == (False, 5)
    assert lowered["flags"][FLAG]["effective"] == 1


def test_a_raise_at_the_same_generation_is_unmanaged_also_behind_a_restart(
    machine: Machine,
) -> None:
    machine.start(yaml(5, 1))
    assert machine.deliver(5, **{FLAG: all_in(50)})["flags"][FLAG]["unmanaged"]
    machine.start()
    flag = machine.flag()
    assert (flag["effective"], flag["stage"], flag["unmanaged"]) == (50, "unmanaged", True)
    assert machine.bench.metric("phase5_flag_unmanaged", flag=FLAG) == 1
    assert not machine.deliver(6, **{FLAG: all_in(50)})["flags"][FLAG]["unmanaged"]


def test_a_raise_by_hand_while_the_engine_was_down_is_one_all_the_same(machine: Machine) -> None:
    machine.start(yaml(5, 1))
    machine.start(yaml(5, 50))
    assert machine.flag()["unmanaged"]


def test_a_stale_file_behind_a_restart_lowers_and_never_raises(machine: Machine) -> None:
    machine.start(yaml(5, 10))
    machine.start(yaml(4, 50))
    assert (machine.flag()["effective"], machine.status()["generation"]) == (10, 5)
    machine.start(yaml(4, 1))
    assert (machine.flag()["effective"], machine.status()["generation"]) == (1, 5)


def test_a_file_that_says_what_it_said_does_not_undo_a_delivery(machine: Machine) -> None:
    machine.start(yaml(3, 1))
    machine.deliver(7, **{FLAG: all_in(10)})
    machine.reload(yaml(3, 1) + "# a remark\n")
    assert machine.flag()["effective"] == 10
    machine.reload(yaml(3, 0))
    assert machine.flag()["effective"] == 0


def test_a_state_with_an_older_epoch_is_not_of_the_same_store(machine: Machine) -> None:
    machine.start(yaml(5, 1, ", epoch: 3"))
    told = machine.deliver(6, **{FLAG: {**all_in(50), "epoch": 2}})
    assert (told["taken"], told["generation"]) == (False, 5)
    assert f"epoch 2 of {FLAG}, which is below 3" in told["reason"]
    assert told["flags"][FLAG]["effective"] == 1


def test_a_delivery_that_the_configuration_does_not_allow_changes_nothing(
    machine: Machine,
) -> None:
    slo = "{name: tokens, metric: throughput_tps, min: 1}"
    machine.start(yaml(5, 1, section=f"qos: {{policies: [{slo}]}}\n"))
    asked = {"generation": 6, "flags": {"qos_monitoring": {"sample_rate": 2}}}
    answer = machine.bench.post("/admin/rollout", **asked)
    assert answer.status_code == 400
    assert "sample_rate 1, not 2" in answer.json()["error"]["message"]
    assert machine.status()["generation"] == 5


# Lifting.


def test_a_later_state_that_cites_a_brake_lifts_it_and_no_other(machine: Machine) -> None:
    machine.start(yaml(3, 10))
    brakes = machine.ask("rollback")["brakes"]
    machine.deliver(4, **{FLAG: {"lifted": [brakes[OTHER]]}, OTHER: {"lifted": ["3f2a"]}})
    assert machine.flag()["braked"]
    machine.deliver(5, **{FLAG: {"lifted": ["3f2a", brakes[FLAG]]}})
    assert (machine.flag()["braked"], machine.flag()["effective"]) == (False, 10)
    assert machine.flag(OTHER)["braked"]
    machine.start()
    assert (machine.flag()["braked"], machine.flag()["effective"]) == (False, 10)
    assert machine.flag(OTHER)["brake"] == brakes[OTHER]


def test_the_file_lifts_as_a_delivery_does(machine: Machine) -> None:
    machine.start(yaml(3, 10))
    brake = machine.ask("rollback", flags=[FLAG])["brakes"][FLAG]
    machine.reload(yaml(4, 10, f", lifted: ['{brake}']"))
    assert machine.flag()["effective"] == 10


@pytest.mark.parametrize("generation", [2, 3])
def test_a_state_that_is_no_later_lifts_nothing(machine: Machine, generation: int) -> None:
    machine.start(yaml(3, 10))
    brake = machine.ask("rollback", flags=[FLAG])["brakes"][FLAG]
    machine.reload(yaml(generation, 10, f", lifted: ['{brake}']"))
    assert machine.flag()["braked"]
    machine.start()
    assert machine.flag()["braked"]


def test_a_flag_that_is_braked_again_has_another_brake(machine: Machine) -> None:
    machine.start(yaml(3, 10))
    brake = machine.ask("rollback", flags=[FLAG])["brakes"][FLAG]
    machine.deliver(4, **{FLAG: {"lifted": [brake]}})
    again = machine.ask("rollback", flags=[FLAG])["brakes"][FLAG]
    assert again != brake
    machine.deliver(5, **{FLAG: {"lifted": [brake]}})
    assert machine.flag()["brake"] == again


def test_a_rollback_while_a_state_is_on_its_way_in_stands(machine: Machine) -> None:
    """Whoever asked was told that the brake stands, with the id that this very state cites."""
    machine.start(yaml(3, 10))
    engine = machine.bench.engine
    brake = machine.ask("rollback", flags=[FLAG])["brakes"][FLAG]
    port = SlowPort()
    engine.http2_port = port

    async def story() -> str:
        state = {FLAG: {"lifted": [brake]}, OTHER: all_in(50)}
        coming = asyncio.create_task(engine.reloads.deliver(4, state))
        await port.asked.wait()
        again = await engine.rollout.roll_back(engine, [FLAG], Cause.MANUAL, "")
        port.may_open.set()
        await coming
        return str(again[FLAG])

    assert asyncio.run(story()) == brake
    assert machine.flag()["brake"] == brake
    machine.start()
    assert machine.flag()["brake"] == brake


class SlowPort:
    """A second port that takes its time to open."""

    def __init__(self) -> None:
        self.asked, self.may_open = asyncio.Event(), asyncio.Event()

    async def open(self) -> None:
        self.asked.set()
        await self.may_open.wait()

    def close(self) -> None:
        self.asked.clear()


# The lease.

SHORT = "rollout: {lease_seconds: {canary: 60, early: 60, mid: 120}}\n"


def test_an_unwatched_flag_is_braked_when_its_lease_is_over(machine: Machine) -> None:
    machine.start(yaml(3, 1, section=SHORT))
    begun = machine.time.wall
    assert machine.status()["lease"] == {
        "expires_at": begun + 60,
        "lapsed": False,
        "frozen": False,
    }
    assert machine.bench.metric("phase5_lease_expires_seconds") == begun + 60
    machine.time.pass_(59)
    machine.look()
    assert machine.flag()["effective"] == 1
    machine.time.pass_(1)
    machine.look()
    assert (machine.flag()["effective"], machine.flag()["cause"]) == (0, "dead_man")
    assert machine.flag(OTHER)["cause"] == "dead_man"
    assert not machine.flag("qos_monitoring")["braked"]  # nobody was served by it
    assert machine.status()["lease"]["lapsed"]
    assert machine.bench.metric("phase5_lease_lapsed") == 1
    machine.start()
    assert machine.flag()["cause"] == "dead_man"


def test_a_renewed_lease_goes_on(machine: Machine) -> None:
    machine.start(yaml(3, 1, section=SHORT))
    for _ in range(4):
        machine.time.pass_(50)
        told = machine.ask("lease", seconds=60)
        assert told["expires_at"] == machine.time.wall + 60
        machine.look()
    assert machine.flag()["effective"] == 1


def test_no_lease_is_longer_than_the_configuration_allows(machine: Machine) -> None:
    machine.start(yaml(3, 1, section=SHORT))
    assert machine.ask("lease", seconds=1e6)["expires_at"] == machine.time.wall + 60
    assert machine.ask("lease", seconds=5)["expires_at"] == machine.time.wall + 5
    machine.deliver(4, **{FLAG: all_in(50), OTHER: all_in(0)})
    assert machine.ask("lease", seconds=1e6)["expires_at"] == machine.time.wall + 120


def test_a_stricter_stage_shortens_the_lease(machine: Machine) -> None:
    machine.start(yaml(3, 50, other=0, section=SHORT))
    machine.ask("lease", seconds=120)
    machine.deliver(4, **{OTHER: all_in(1)})
    assert machine.status()["lease"]["expires_at"] == machine.time.wall + 60


def test_the_first_flag_that_needs_a_lease_has_time_for_its_guard(machine: Machine) -> None:
    machine.start(f"generation: 3\n{SHORT}")
    assert machine.status()["lease"]["expires_at"] is None
    machine.ask("lease", seconds=10)
    machine.time.pass_(1_000)
    machine.deliver(4, **{FLAG: all_in(1)})
    machine.look()
    assert machine.status()["lease"]["expires_at"] == machine.time.wall + 60
    assert machine.flag()["effective"] == 1


def test_a_restart_neither_ends_nor_prolongs_a_lease(machine: Machine) -> None:
    machine.start(yaml(3, 1, section=SHORT))
    expires = machine.status()["lease"]["expires_at"]
    machine.time = Time(now=7.0, wall=machine.time.wall + 40)  # another process, another clock
    machine.start()
    machine.look()
    assert machine.status()["lease"]["expires_at"] == expires
    assert machine.flag()["effective"] == 1
    machine.time = Time(now=3.0, wall=expires)
    machine.start()
    machine.look()
    assert machine.flag()["cause"] == "dead_man"


def test_a_clock_that_was_set_back_prolongs_no_lease(machine: Machine) -> None:
    machine.start(yaml(3, 1, section=SHORT))
    machine.time.pass_(30)
    machine.time.wall -= 1e6
    machine.time.pass_(30)
    machine.look()
    assert machine.flag()["braked"]


def test_at_full_an_engine_without_a_guard_serves_on_pages_and_raises_nothing(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.start(yaml(3, 100, section=SHORT))
    machine.time.pass_(60)
    with caplog.at_level(logging.ERROR):
        machine.look()
        machine.look()
    assert [text for text in caplog.messages if "lease lapsed" in text and FLAG in text]
    assert len([text for text in caplog.messages if "lease lapsed" in text]) == 1
    assert machine.flag()["effective"] == 99
    assert machine.flag(OTHER)["cause"] == "dead_man"
    assert machine.status()["lease"]["frozen"]
    told = machine.deliver(4, adaptive_governor=all_in(1))
    assert (told["taken"], told["generation"]) == (False, 3)
    assert "until it is renewed" in told["reason"]
    brake = machine.flag(OTHER)["brake"]
    assert not machine.deliver(4, **{OTHER: {"lifted": [brake]}})["taken"]
    assert machine.flag(OTHER)["braked"]
    assert machine.deliver(4, **{FLAG: all_in(50)})["taken"]  # less of it, at any time
    assert machine.flag()["effective"] == 50


def test_a_raise_that_a_frozen_engine_left_out_is_taken_when_its_guard_is_back(
    machine: Machine,
) -> None:
    machine.start(yaml(3, 100, other=0, section=SHORT))
    machine.time.pass_(1_000)
    machine.look()
    machine.reload(yaml(4, 100, section=SHORT))
    assert machine.flag(OTHER)["effective"] == 0
    assert machine.status()["generation"] == 3
    assert "until it is renewed" in machine.status()["reload"]["reason"]
    machine.ask("lease", seconds=60)
    assert (machine.flag(OTHER)["effective"], machine.status()["generation"]) == (10, 4)
    assert not machine.flag(OTHER)["unmanaged"]
    assert not machine.status()["lease"]["frozen"]


def test_what_the_rollout_never_brought_needs_no_guard(machine: Machine) -> None:
    machine.start(f"generation: 3\n{SHORT}")
    machine.reload(f"generation: 3\nphase4_rollout: {{{FLAG}: {ON}}}\n{SHORT}")
    assert machine.flag()["unmanaged"]
    machine.time.pass_(1_000)
    machine.look()
    assert machine.flag()["effective"] == 10


def test_what_somebody_raised_further_by_hand_is_watched_all_the_same(machine: Machine) -> None:
    machine.start(yaml(3, 1, section=SHORT))
    machine.reload(yaml(3, 50, section=SHORT))
    machine.time.pass_(60)
    machine.look()
    assert machine.flag()["cause"] == "dead_man"


# The hold-back.


def test_at_full_the_hold_back_stays_control_under_deliveries_and_brakes(
    machine: Machine,
) -> None:
    keys = [f"user-{number}" for number in range(2_000)]
    held = {key for key in keys if not assigned(FLAG, key, 99)}
    assert held
    machine.start(yaml(3, 50))
    machine.deliver(4, **{FLAG: {**all_in(), "stage": "full"}})
    assert (machine.flag()["percentage"], machine.flag()["effective"]) == (100, 99)
    assert in_control(machine, keys) == held
    brake = machine.ask("rollback", flags=[FLAG])["brakes"][FLAG]
    assert in_control(machine, keys) == set(keys)
    machine.deliver(5, **{FLAG: {"lifted": [brake]}})
    assert in_control(machine, keys) == held


def in_control(machine: Machine, keys: list[str]) -> set[str]:
    features = machine.bench.engine.features
    return {key for key in keys if FLAG not in features.assign(key, 0.0)}


def test_an_engine_without_memory_starts_with_what_its_file_says(make_bench: Any) -> None:
    bench = make_bench(yaml(3, 10), flags=None, state=NoState("here"))
    assert bench.engine.engine_id == "here"
    assert bench.get("/v1/status").json()["engine_id"] == "here"
