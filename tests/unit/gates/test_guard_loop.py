"""The guard's loop on engines over HTTP, a store in memory and minutes that are made up."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fake_engine import HANG, FakeEngine, running
from made_up_minutes import ENTERED, Clock, MadeUp, guard_on
from memory_store import MemoryStore

from engine.core.flags import FLAGS
from gates.cli import verify
from gates.engines import clients
from gates.guarding.concerns import holds
from gates.guarding.folder import HEARTBEAT_FILE, VERDICTS, read_json
from gates.guarding.loop import Guard
from gates.guarding.situation import Action, Situation
from gates.ledger import Header, Row
from gates.ledger_file import LEDGER_FOLDER, name_of, read
from gates.live import SourceError
from gates.standing import Cause, Standing, candidate
from gates.store import Snapshot

FLAG, OTHER = "ttft_pipeline", "http2_transport"
CANDIDATE = candidate("abc", "def")


def standings(**stages: str) -> dict[str, Standing]:
    shares = {"off": 0.0, "canary": 1.0, "early": 10.0}
    return {
        flag: Standing(
            stage=(stage := stages.get(flag, "off")),
            enabled=stage != "off",
            percentage=shares[stage],
            entered_at=ENTERED,
            epoch=3,
        )
        for flag in FLAGS
    }


@dataclass
class Leased(FakeEngine):
    """Counts how often its lease was renewed."""

    leases: int = 0

    def answer(self, path: str, body: Any) -> dict[str, Any]:
        self.leases += path == "/admin/lease"
        return super().answer(path, body)


@dataclass
class Scene:
    """A guard with everything around it."""

    folder: Path
    store: MemoryStore
    engines: list[Leased]
    evidence: MadeUp
    clock: Clock
    guard: Guard

    def poll(self, seconds: float = 15.0) -> tuple[Situation, tuple[Action, ...]]:
        """One poll, some time after the last one."""
        self.clock.now += timedelta(seconds=seconds)

        async def once() -> tuple[Situation, tuple[Action, ...]]:
            async with clients([engine.url for engine in self.engines]) as engines:
                return await self.guard.poll(engines)

        return asyncio.run(once())

    def holds(self) -> tuple[str, ...]:
        return holds(self.poll()[1])

    def again(self) -> None:
        """The guard is killed, and another one begins in its place."""
        self.guard.ledgers.close()
        self.guard = guard_on(self.folder, self.store, self.evidence, self.clock)

    def renewals(self) -> list[int]:
        return [engine.leases for engine in self.engines]


@contextmanager
def scene(folder: Path, **stages: str) -> Iterator[Scene]:
    with ExitStack() as stack:
        flags = standings(**stages)
        engines = [
            stack.enter_context(
                running(
                    Leased(
                        engine_id=name,
                        generation=7,
                        shares={flag: s.percentage for flag, s in flags.items()},
                        commit="abc",
                        config_sha256="def",
                    )
                )
            )
            for name in ("e1", "e2")
        ]
        store, evidence, clock = MemoryStore(flags), MadeUp(), Clock()
        yield Scene(
            folder, store, engines, evidence, clock, guard_on(folder, store, evidence, clock)
        )


@pytest.fixture
def story(tmp_path: Path) -> Callable[..., Scene]:
    with ExitStack() as stack:
        yield lambda **stages: stack.enter_context(scene(tmp_path / "guard", **stages))


Begin = Callable[..., Scene]


def shares(engine: FakeEngine, flag: str) -> float:
    share: float = engine.flag(flag)["effective"]
    return share


def test_a_sound_rollout_is_left_alone_and_its_leases_are_renewed(story: Begin) -> None:
    it = story(**{FLAG: "early"})
    _, actions = it.poll()
    assert holds(actions) == ()
    assert it.renewals() == [1, 1]
    assert it.store.generation == 7
    assert read_json(it.folder / HEARTBEAT_FILE)["generation"] == 7


@pytest.mark.parametrize("text", ["", '{"kind": "hea'])
def test_a_ledger_whose_guard_died_before_its_first_line_is_begun_anew(
    story: Begin, text: str
) -> None:
    it = story(**{FLAG: "early"})
    ledger = it.folder / LEDGER_FOLDER / name_of(FLAG, 3)
    ledger.parent.mkdir(parents=True)
    ledger.write_text(text)
    assert it.holds() == ()
    assert it.renewals() == [1, 1]
    assert read(ledger).problems == ()


def test_the_guilty_flag_goes_alone_with_a_verdict_that_verifies(story: Begin) -> None:
    it = story(**{FLAG: "early", OTHER: "early"})
    it.poll()
    it.evidence.bad = {FLAG: it.clock.closed_now() + 1}
    it.poll(60)
    for engine in it.engines:
        assert shares(engine, FLAG) == 0
        assert shares(engine, OTHER) == 10
    assert it.store.flags[FLAG].stage == "off"
    assert it.store.flags[FLAG].tombstones == (CANDIDATE,)
    assert it.store.flags[OTHER].stage == "early"
    assert it.store.flags[OTHER].epoch == 3
    (record,) = it.store.records
    (verdict,) = (it.folder / VERDICTS).glob("*/verdict.json")
    assert record.cause == Cause.VERDICT
    assert "live_error_rate" in record.reason
    assert record.verdict
    assert verify(verdict) == 0
    assert it.guard.deeds.journal.memory.pending == ()


def test_a_crash_takes_every_flag_and_its_build_may_not_return(story: Begin) -> None:
    it = story(**{FLAG: "early", OTHER: "early"})
    it.poll()
    it.evidence.crashed = it.clock.closed_now() + 1
    it.poll(60)
    for flag in (FLAG, OTHER):
        assert it.store.flags[flag].stage == "off"
        assert it.store.flags[flag].tombstones == (CANDIDATE,)
    assert {record.cause for record in it.store.records} == {Cause.CRASH}
    causes = {body["cause"] for e in it.engines for path, body in e.told if "rollback" in path}
    assert causes == {"crash"}  # so that treated streams are replayed


def test_where_nobody_can_tell_all_go_and_are_suspect(story: Begin) -> None:
    it = story(**{FLAG: "early", OTHER: "early"})
    it.poll()
    it.evidence.bad = dict.fromkeys((FLAG, OTHER), it.clock.closed_now() + 1)
    it.poll(60)
    for flag in (FLAG, OTHER):
        assert it.store.flags[flag].stage == "off"
        assert it.store.flags[flag].suspect == CANDIDATE
        assert it.store.flags[flag].tombstones == ()


def test_where_nobody_is_bad_nobody_goes(story: Begin) -> None:
    it = story(**{FLAG: "early", OTHER: "early"})
    for _ in range(5):
        it.poll(60)
    assert not it.store.records
    assert not (it.folder / VERDICTS).exists()


def test_a_store_that_is_out_of_reach_delays_no_brake_and_learns_of_it_later(story: Begin) -> None:
    it = story(**{FLAG: "early"})
    it.poll()
    it.store.out = "git: no route to host"
    it.evidence.bad = {FLAG: it.clock.closed_now() + 1}
    _, actions = it.poll(60)
    assert [shares(engine, FLAG) for engine in it.engines] == [0, 0]
    assert any("the store does not know of ttft_pipeline" in text for text in holds(actions))
    it.again()  # also when the guard does not live to see it
    it.poll()
    it.store.out = ""
    it.poll()
    assert it.store.flags[FLAG].stage == "off"
    assert it.store.records[0].cause == Cause.VERDICT
    it.poll()
    assert it.guard.deeds.journal.memory.pending == ()


def test_a_write_that_others_were_quicker_than_is_tried_again(story: Begin) -> None:
    it = story(**{FLAG: "early"})
    it.poll()
    it.store.lost = 2
    it.evidence.bad = {FLAG: it.clock.closed_now() + 1}
    it.poll(60)
    assert it.store.flags[FLAG].stage == "off"


def test_an_engine_that_is_down_is_named_and_braked_when_it_comes_back(
    story: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gates.guarding.acting.BRAKE_SECONDS", 0.2)
    monkeypatch.setattr("gates.guarding.loop.STATUS_SECONDS", 0.2)
    it = story(**{FLAG: "early"})
    it.poll()
    it.engines[1].faults = [503] * 1_000
    it.evidence.bad = {FLAG: it.clock.closed_now() + 1}
    _, actions = it.poll(60)
    assert shares(it.engines[0], FLAG) == 0
    assert it.store.flags[FLAG].stage == "off"
    assert any(it.engines[1].url in text for text in holds(actions))
    it.engines[1].faults.clear()
    it.poll()
    assert shares(it.engines[1], FLAG) == 0
    it.poll()
    assert it.guard.deeds.journal.memory.pending == ()


def test_an_operators_brakes_are_taken_over_into_the_store(story: Begin) -> None:
    it = story(**{FLAG: "early", OTHER: "early"})
    it.poll()
    it.engines[0].brakes[FLAG] = "by-hand"
    it.poll()
    assert not it.store.records  # the command that braked it may be writing it down
    it.poll()
    assert [shares(engine, FLAG) for engine in it.engines] == [0, 0]
    assert it.store.flags[FLAG].stage == "off"
    assert it.store.flags[OTHER].stage == "early"
    (record,) = it.store.records
    assert record.cause == Cause.MANUAL
    assert it.engines[0].url in record.reason


def test_what_the_store_raises_is_delivered(story: Begin) -> None:
    it = story()
    it.store.flags = standings(**{FLAG: "early"})
    it.store.generation = 8
    it.poll()
    assert [shares(engine, FLAG) for engine in it.engines] == [10, 10]
    assert [engine.generation for engine in it.engines] == [8, 8]


def test_a_damaged_history_lets_no_raise_out(story: Begin) -> None:
    it = story()
    it.store.flags = standings(**{FLAG: "early"})
    it.store.generation = 8
    it.store.problems = ("history:3: edited",)
    assert any("edited" in text for text in it.holds())
    assert [shares(engine, FLAG) for engine in it.engines] == [0, 0]


def test_a_store_that_went_back_is_not_believed(story: Begin) -> None:
    it = story(**{FLAG: "early"})
    it.poll()
    it.store.generation = 5
    assert any("it went back" in text for text in it.holds())
    it.again()
    assert any("it went back" in text for text in it.holds())
    assert it.renewals()[0] == 2  # what was known before still is, until the guard is new


@pytest.mark.parametrize("how", ["lost", "invalid"])
def test_without_evidence_no_lease_is_renewed_and_the_reason_is_told(
    story: Begin, how: str
) -> None:
    it = story(**{FLAG: "early"})
    it.poll()
    before = it.renewals()
    setattr(it.evidence, how, "prometheus: NaN")
    for _ in range(8):
        _, actions = it.poll(60)
    after = it.renewals()
    assert any("prometheus: NaN" in text for text in holds(actions))
    assert it.holds()
    assert it.renewals() == after
    assert after[0] - before[0] <= 6  # while the last valid minute was fresh
    assert not it.store.records


def test_an_engine_that_hangs_delays_a_poll_and_nothing_more(
    story: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gates.guarding.loop.STATUS_SECONDS", 0.2)
    it = story(**{FLAG: "early"})
    it.engines[1].faults = [HANG]
    _, actions = it.poll()
    assert it.renewals() == [1, 0]
    assert any("does not answer" in text for text in holds(actions))


def test_one_look_renews_and_delivers_nothing(story: Begin) -> None:
    it = story(**{FLAG: "early"})
    it.guard.once = True
    it.poll()
    assert it.renewals() == [0, 0]


def test_a_new_guard_goes_on_behind_the_last_minute_and_counts_none_twice(story: Begin) -> None:
    it = story(**{FLAG: "early"})
    it.poll()
    path = it.guard.ledgers.path(FLAG)
    before = path.read_text()
    valid = it.guard.ledgers.folds[FLAG].ledger.valid
    it.again()
    it.poll(0)
    assert path.read_text() == before
    assert it.guard.ledgers.folds[FLAG].ledger.valid == valid
    it.poll(60)
    assert path.read_text().startswith(before)
    assert it.guard.ledgers.folds[FLAG].ledger.valid == valid + 1
    minutes = [line.partition('"minute":')[2][:20] for line in path.read_text().splitlines()[1:]]
    assert len(minutes) == len(set(minutes))


def test_two_guards_on_one_store_roll_back_once(story: Begin, tmp_path: Path) -> None:
    it = story(**{FLAG: "early"})
    other = guard_on(tmp_path / "other", it.store, it.evidence, it.clock)
    it.poll()
    it.evidence.bad = {FLAG: it.clock.closed_now() + 1}
    it.clock.now += timedelta(seconds=60)

    async def both() -> None:
        async with clients([engine.url for engine in it.engines]) as engines:
            await asyncio.gather(it.guard.poll(engines), other.poll(engines))
            await asyncio.gather(it.guard.poll(engines), other.poll(engines))

    asyncio.run(both())
    assert len(it.store.records) == 1
    assert it.store.flags[FLAG].epoch == 4
    for each in (it.guard, other):
        assert each.deeds.journal.memory.pending == ()
    other.ledgers.close()


class Racing(MemoryStore):
    """Somebody promotes right after the first look."""

    promoted: bool = False

    def read(self) -> Snapshot:
        found = super().read()
        if not self.promoted:
            self.promoted = True
            self.flags = standings(**{FLAG: "early"})
            self.generation += 1
        return found


def test_a_promotion_between_two_looks_is_no_reason_to_call_anybody(story: Begin) -> None:
    it = story()
    racing = Racing(dict(it.store.flags))
    it.guard.reading.store = racing
    for engine in it.engines:
        engine.generation = 8
    _, actions = it.poll()
    assert holds(actions) == ()
    assert it.guard.reading.view is not None
    assert it.guard.reading.view.generation == 8


def test_a_flag_of_which_nothing_is_known_does_not_keep_the_others_waiting(story: Begin) -> None:
    it = story(**{FLAG: "early", OTHER: "early"})
    it.poll()
    known, rows = it.evidence, it.evidence.rows

    def half(header: Header, first: int, last: int) -> Iterator[Row]:
        if header.flag == FLAG:
            raise SourceError("prometheus: half of it")
        return rows(header, first, last)

    known.rows = half  # type: ignore[method-assign] # ill from now on
    _, actions = it.poll(60)
    assert any("half of it" in text for text in holds(actions))
    last = {flag: each.writer.last for flag, each in it.guard.ledgers.watched.items()}
    assert last[OTHER] == it.clock.closed_now()
    assert last[FLAG] == it.clock.closed_now() - 1
