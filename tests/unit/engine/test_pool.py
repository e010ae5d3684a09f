import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.core.placing import BLOCK_TOKENS
from engine.runtime import pool as pool_module
from engine.runtime.interface import Replica, ReplicaState, RuntimeStartError, StreamListener
from engine.runtime.messages import Prefill, Submit, Token, Warm
from engine.runtime.pool import Pool

MAX_TOKENS = 9


@dataclass
class Ear:
    """A listener that notices every breach of its contract."""

    tokens: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    over: bool = False

    def on_prefill(self, prefill: Prefill) -> None:
        pass

    def on_token(self, token: Token) -> None:
        assert not self.over
        assert token.position == len(self.tokens)
        self.tokens.append(token.token)
        self.over = token.finish is not None

    def on_fault(self, reason: str) -> None:
        assert not self.over
        self.faults.append(reason)
        self.over = True


class Deaf(Ear):
    def on_token(self, token: Token) -> None:
        raise ValueError(token.uid)


@dataclass
class Held:
    """A stream in a fake."""

    request: Submit
    listener: StreamListener
    emitted: list[int]
    paused: bool = False


class FakeReplica:
    """A replica that does only what the test tells it to."""

    def __init__(self, pid: int, on_failed: Callable[[], None], world: "World") -> None:
        self.state = ReplicaState.STOPPED
        self.pid = pid
        self.restarts = 0
        self.streams: dict[int, Held] = {}
        self.renewed = 0
        self.kept: list[int] = []
        self.warmed: dict[int, Callable[[int], None]] = {}
        self._on_failed = on_failed
        self._world = world

    @property
    def ready(self) -> bool:
        return self.state is ReplicaState.READY

    @property
    def accepting(self) -> bool:
        return self.state in (ReplicaState.READY, ReplicaState.RESTARTING)

    async def start(self) -> None:
        self.state = ReplicaState.STARTING
        self._world.starting += 1
        try:
            await self._world.gate.wait()
        finally:
            self._world.starting -= 1
        if self._world.failures > 0:
            self._world.failures -= 1
            self.state = ReplicaState.FAILED
            raise RuntimeStartError("no room")
        self.state = ReplicaState.READY

    def submit(self, request: Submit, listener: StreamListener) -> None:
        assert self.state not in (ReplicaState.STOPPED, ReplicaState.FAILED)
        assert request.uid not in self.streams
        self.streams[request.uid] = Held(request, listener, list(request.emitted))

    def cancel(self, uid: int) -> None:
        self.streams.pop(uid, None)

    def pause(self, uid: int) -> None:
        self.streams[uid].paused = True

    def resume(self, uid: int) -> None:
        self.streams[uid].paused = False

    def warm(self, message: Warm, on_known: Callable[[int], None]) -> None:
        self.warmed[message.uid] = on_known

    def forget(self, uid: int) -> None:
        self.warmed.pop(uid, None)

    def evict(self, keep_bytes: int) -> None:
        self.kept.append(keep_bytes)

    async def renew(self) -> None:
        self.renewed += 1
        if self.ready:
            self.fall()
            while self.state is ReplicaState.RESTARTING:  # noqa: ASYNC110  # until a test says so
                await asyncio.sleep(0)

    def replicas(self) -> list[Replica]:
        return [
            Replica(
                pid=self.pid,
                state=self.state,
                streams=len(self.streams),
                restarts=self.restarts,
                blas="",
                device="cpu",
                kv_bytes=0,
                prefix_bytes=0,
            )
        ]

    def hand_over(self) -> list[tuple[Submit, StreamListener]]:
        taken = [
            (
                Submit(
                    uid=uid,
                    prompt=held.request.prompt,
                    max_tokens=held.request.max_tokens,
                    seed=held.request.seed,
                    emitted=list(held.emitted),
                ),
                held.listener,
            )
            for uid, held in self.streams.items()
        ]
        self.streams.clear()
        return taken

    async def stop(self) -> None:
        self.state = ReplicaState.STOPPED
        await asyncio.sleep(0)
        self._fault_all("the runtime stopped")

    # What the test makes it do.

    def token(self, uid: int, *, last: bool = False) -> None:
        held = self.streams[uid]
        position = len(held.emitted)
        held.emitted.append(100 * uid + position)
        if last:
            del self.streams[uid]
        finish = "stop" if last else None
        try:
            held.listener.on_token(Token(uid, position, held.emitted[-1], finish))
        except ValueError:
            self.cancel(uid)

    def fall(self) -> None:
        self.state = ReplicaState.RESTARTING
        self.pid += 1000

    def rise(self) -> None:
        self.restarts += 1
        self.state = ReplicaState.READY

    def die_for_good(self) -> None:
        self.state = ReplicaState.FAILED
        self._on_failed()
        self._fault_all("the runtime died too often")

    def _fault_all(self, reason: str) -> None:
        for uid in list(self.streams):
            self.streams.pop(uid).listener.on_fault(reason)


class World:
    """Makes fakes, lets their starts go on, and is the ground that they share."""

    def __init__(self) -> None:
        self.fakes: list[FakeReplica] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures = 0
        self.starting = 0
        self.grounds = 0

    def make(self, on_failed: Callable[[], None]) -> FakeReplica:
        self.fakes.append(FakeReplica(len(self.fakes) + 1, on_failed, self))
        return self.fakes[-1]

    async def open(self) -> None:
        self.grounds += 1

    async def close(self) -> None:
        self.grounds = 0

    def home(self, uid: int) -> FakeReplica:
        (fake,) = [fake for fake in self.fakes if uid in fake.streams]
        return fake


def request(uid: int, prompt: list[int] | None = None, *, reuse: bool = False) -> Submit:
    return Submit(
        uid=uid, prompt=prompt or [uid], max_tokens=MAX_TOKENS, seed=uid, reuse_prefix=reuse
    )


async def settled() -> None:
    """Let every task that can run do so."""
    for _ in range(30):
        await asyncio.sleep(0)


Scene = Callable[[Pool, World], Awaitable[None]]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_LOOK_SECONDS", 0)


def play(scene: Scene, replicas: int = 2) -> None:
    async def run() -> None:
        world = World()
        pool = Pool(world.make, replicas, world)
        await pool.start()
        try:
            await scene(pool, world)
        finally:
            await pool.stop()
        assert world.grounds == 0

    asyncio.run(run())


def test_streams_go_to_the_replica_with_the_fewest() -> None:
    async def scene(pool: Pool, world: World) -> None:
        for uid in (1, 2, 3):
            pool.submit(request(uid), Ear())
        assert [list(fake.streams) for fake in world.fakes] == [[1, 3], [2]]
        world.fakes[0].token(1, last=True)
        world.fakes[0].token(3, last=True)
        pool.submit(request(4), Ear())
        assert 4 in world.fakes[0].streams

    play(scene)


def test_a_stream_goes_where_its_prompt_was_read_unless_that_is_crowded() -> None:
    known = [7] * (3 * BLOCK_TOKENS)

    async def scene(pool: Pool, world: World) -> None:
        first, second = world.fakes
        pool.submit(request(1, known, reuse=True), Ear())
        for uid in range(2, 6):
            pool.submit(request(uid, known, reuse=True), Ear())
        assert list(first.streams) == [1, 2, 3, 4, 5]
        pool.submit(request(6, known), Ear())  # it does not reuse
        assert list(second.streams) == [6]
        pool.submit(request(7, known, reuse=True), Ear())
        pool.submit(request(8, known, reuse=True), Ear())
        assert 7 in first.streams
        assert 8 in second.streams

    play(scene)


def test_a_new_process_is_not_taken_to_know_what_the_old_one_read() -> None:
    known = [7] * BLOCK_TOKENS

    async def scene(pool: Pool, world: World) -> None:
        first, second = world.fakes
        pool.submit(request(1, known, reuse=True), Ear())
        first.fall()
        first.rise()
        pool.submit(request(2, known, reuse=True), Ear())
        assert list(second.streams) == [2]

    play(scene)


def test_while_none_is_ready_a_stream_waits_in_one_that_restarts() -> None:
    async def scene(pool: Pool, world: World) -> None:
        first, second = world.fakes
        first.die_for_good()
        second.fall()
        assert not pool.ready
        pool.submit(request(1), ear := Ear())
        await settled()
        assert list(second.streams) == [1]
        assert ear.faults == []

    play(scene)


def test_a_replica_past_saving_hands_its_streams_to_the_others_behind_their_last_token() -> None:
    async def scene(pool: Pool, world: World) -> None:
        first, second = world.fakes
        pool.submit(request(1), ear := Ear())
        first.token(1)
        first.token(1)
        pool.pause(1)
        first.die_for_good()
        assert second.streams[1].emitted == [100, 101]
        assert second.streams[1].paused
        second.token(1, last=True)
        assert (ear.tokens, ear.faults) == ([100, 101, 102], [])
        assert pool.ready
        assert [replica.state for replica in pool.replicas()] == [
            ReplicaState.FAILED,
            ReplicaState.READY,
        ]

    play(scene)


def test_when_the_last_replica_is_lost_its_streams_fault_and_so_do_new_ones() -> None:
    async def scene(pool: Pool, world: World) -> None:
        pool.submit(request(1), ear := Ear())
        for fake in world.fakes:
            fake.die_for_good()
        pool.submit(request(2), late := Ear())
        pool.submit(request(3), cancelled := Ear())
        pool.cancel(3)
        await settled()
        assert not pool.ready
        assert ear.faults == ["the runtime died too often"]
        assert late.faults == ["no replica is left"]
        assert cancelled.faults == []

    play(scene)


def test_a_lost_replica_is_replaced_by_the_next_scale_or_renewal() -> None:
    async def scene(pool: Pool, world: World) -> None:
        for fake in world.fakes:
            fake.die_for_good()
        await pool.scale(1)
        assert pool.ready
        assert [replica.pid for replica in pool.replicas()] == [3]
        world.fakes[2].die_for_good()
        await pool.renew()
        assert [replica.pid for replica in pool.replicas()] == [4]

    play(scene)


def test_growing_serves_meanwhile_and_starts_all_at_once() -> None:
    async def scene(pool: Pool, world: World) -> None:
        world.gate.clear()
        growing = asyncio.create_task(pool.scale(4))
        await settled()
        assert world.starting == 2
        pool.submit(request(1), Ear())
        pool.submit(request(2), Ear())
        assert [len(fake.streams) for fake in world.fakes] == [1, 1, 0, 0]
        world.gate.set()
        await growing
        pool.submit(request(3), Ear())
        assert world.home(3) in world.fakes[2:]

    play(scene)


def test_a_start_that_fails_raises_and_leaves_the_pool_as_it_was() -> None:
    async def scene(pool: Pool, world: World) -> None:
        pool.submit(request(1), ear := Ear())
        world.failures = 1
        with pytest.raises(RuntimeStartError, match="no room"):
            await pool.scale(4)
        assert [replica.pid for replica in pool.replicas()] == [1, 2]
        assert all(fake.state is ReplicaState.STOPPED for fake in world.fakes[2:])
        world.home(1).token(1, last=True)
        assert ear.tokens == [100]
        await pool.scale(3)
        assert len(pool.replicas()) == 3

    play(scene)


def test_a_pool_that_cannot_start_leaves_nothing() -> None:
    async def run() -> None:
        world = World()
        world.failures = 1
        pool = Pool(world.make, 3, world)
        with pytest.raises(RuntimeStartError, match="no room"):
            await pool.start()
        assert pool.replicas() == []
        assert (world.grounds, world.starting) == (0, 0)
        assert not pool.ready

    asyncio.run(run())


def test_shrinking_moves_the_streams_of_the_one_that_leaves() -> None:
    async def scene(pool: Pool, world: World) -> None:
        ears = {uid: Ear() for uid in (1, 2, 3)}
        for uid, ear in ears.items():
            pool.submit(request(uid), ear)
        world.fakes[1].token(2)
        await pool.scale(1)
        assert [replica.pid for replica in pool.replicas()] == [1]
        assert list(world.fakes[0].streams) == [1, 3, 2]
        assert world.fakes[1].state is ReplicaState.STOPPED
        for uid in ears:
            world.fakes[0].token(uid, last=True)
        assert ears[2].tokens == [200, 201]

    play(scene)


@pytest.mark.parametrize("replicas", [0, -1])
def test_a_pool_never_has_fewer_than_one(replicas: int) -> None:
    async def scene(pool: Pool, world: World) -> None:
        with pytest.raises(ValueError, match=f"at least one replica, asked for {replicas}"):
            await pool.scale(replicas)
        assert len(world.fakes) == 2

    play(scene)


def test_of_overlapping_calls_the_last_one_holds() -> None:
    async def scene(pool: Pool, world: World) -> None:
        world.gate.clear()
        calls = [asyncio.create_task(pool.scale(count)) for count in (3, 9, 1, 2)]
        await settled()
        assert len(world.fakes) <= 3
        world.gate.set()
        await asyncio.gather(*calls)
        assert len(pool.replicas()) == 2

    play(scene, replicas=1)


def test_restarts_are_not_forgotten_with_the_replica_that_had_them() -> None:
    async def scene(pool: Pool, world: World) -> None:
        world.fakes[1].fall()
        world.fakes[1].rise()
        pool.submit(request(1), Ear())
        await pool.scale(1)
        assert [(replica.pid, replica.restarts) for replica in pool.replicas()] == [(1, 1)]

    play(scene)


def test_replicas_are_renewed_one_after_the_other() -> None:
    async def scene(pool: Pool, world: World) -> None:
        first, second = world.fakes
        renewing = asyncio.create_task(pool.renew())
        await settled()
        assert (first.renewed, second.renewed) == (1, 0)
        assert pool.ready
        first.rise()
        await settled()
        assert (first.renewed, second.renewed) == (1, 1)
        assert pool.ready
        second.rise()
        await renewing

    play(scene)


def test_a_renewal_goes_on_past_a_replica_that_is_lost_meanwhile() -> None:
    async def scene(pool: Pool, world: World) -> None:
        first, second = world.fakes
        renewing = asyncio.create_task(pool.renew())
        await settled()
        first.die_for_good()
        await settled()
        second.rise()
        await renewing
        assert second.renewed == 1

    play(scene)


def test_evicting_reaches_every_replica() -> None:
    async def scene(pool: Pool, world: World) -> None:
        pool.evict(5)
        assert [fake.kept for fake in world.fakes] == [[5], [5]]

    play(scene)


def test_a_listener_that_raises_leaves_nothing_in_the_pool() -> None:
    async def scene(pool: Pool, world: World) -> None:
        pool.submit(request(1), Deaf())
        world.fakes[0].token(1)
        pool.submit(request(2), Ear())
        assert list(world.fakes[0].streams) == [2]

    play(scene)


def test_stopping_while_it_grows_ends_the_growth_and_tells_who_asked() -> None:
    async def scene(pool: Pool, world: World) -> None:
        world.gate.clear()
        growing = asyncio.create_task(pool.scale(3))
        await settled()
        pool.submit(request(1), ear := Ear())
        await pool.stop()
        with pytest.raises(RuntimeStartError, match="stopped while it grew"):
            await growing
        assert {fake.state for fake in world.fakes} == {ReplicaState.STOPPED}
        assert ear.faults == ["the runtime stopped"]
        with pytest.raises(RuntimeStartError, match="the pool is stopped"):
            await pool.scale(3)
        pool.submit(request(2), late := Ear())
        await settled()
        assert late.faults == ["the runtime is stopped"]

    play(scene)


class PoolMachine(RuleBasedStateMachine):
    """Any order of events: every stream ends once, in order, and nothing of it remains."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.live: dict[int, Ear] = {}
        self.paused: set[int] = set()
        self.changes: list[asyncio.Task[None]] = []
        self.uid = 0

    @initialize(replicas=st.integers(1, 3))
    def start(self, replicas: int) -> None:
        async def begin() -> None:
            self.world = World()
            self.pool = Pool(self.world.make, replicas, self.world)
            await self.pool.start()

        self.loop.run_until_complete(begin())

    def settle(self) -> set[int]:
        """Let everything happen; returns the streams that were lost."""
        self.loop.run_until_complete(settled())
        lost = {uid for uid, ear in self.live.items() if ear.faults}
        self.live = {uid: ear for uid, ear in self.live.items() if not ear.over}
        self.paused &= self.live.keys()
        return lost

    def serving(self) -> list[FakeReplica]:
        members = self.pool._members.values()
        return [
            fake for fake in self.world.fakes for m in members if m.replica is fake and m.serving
        ]

    def running(self) -> list[FakeReplica]:
        states = (ReplicaState.READY, ReplicaState.RESTARTING)
        return [fake for fake in self.world.fakes if fake.state in states]

    @rule(shared=st.booleans())
    def submit(self, shared: bool) -> None:
        self.uid += 1
        ear = self.live[self.uid] = Ear()
        expected = bool(self.serving())

        async def call() -> None:
            prompt = [7] * BLOCK_TOKENS if shared else None
            self.pool.submit(request(self.uid, prompt, reuse=shared), ear)

        self.loop.run_until_complete(call())
        assert self.settle() == (set() if expected else {self.uid})

    @precondition(lambda self: self.live)
    @rule(data=st.data(), last=st.booleans())
    def token(self, data: st.DataObject, last: bool) -> None:
        uid = data.draw(st.sampled_from(sorted(self.live)))
        home = self.world.home(uid)
        if home.ready:
            home.token(uid, last=last)
        assert self.settle() == set()

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        uid = data.draw(st.sampled_from(sorted(self.live)))
        self.pool.cancel(uid)
        self.live.pop(uid).over = True  # from here on it must hear nothing
        self.paused.discard(uid)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def pause_or_resume(self, data: st.DataObject) -> None:
        uid = data.draw(st.sampled_from(sorted(self.live)))
        (self.pool.resume if uid in self.paused else self.pool.pause)(uid)
        self.paused ^= {uid}

    @precondition(lambda self: self.running())
    @rule(data=st.data(), how=st.sampled_from(["falls", "rises", "dies for good"]))
    def replica(self, data: st.DataObject, how: str) -> None:
        fake = data.draw(st.sampled_from(self.running()))
        streams = set(fake.streams)
        others = [other for other in self.serving() if other is not fake]

        async def call() -> None:
            {"falls": fake.fall, "rises": fake.rise, "dies for good": fake.die_for_good}[how]()

        self.loop.run_until_complete(call())
        lost = streams if how == "dies for good" and not others else set()
        assert self.settle() == lost

    @rule(replicas=st.integers(1, 4))
    def scale(self, replicas: int) -> None:
        self.changes.append(self.loop.create_task(self.pool.scale(replicas)))
        assert self.settle() == set()

    @rule()
    def renew(self) -> None:
        self.changes.append(self.loop.create_task(self.pool.renew()))
        assert self.settle() == set()

    @rule(opened=st.booleans(), failures=st.integers(0, 2))
    def starts(self, opened: bool, failures: int) -> None:
        self.world.failures = failures
        (self.world.gate.set if opened else self.world.gate.clear)()
        assert self.settle() == set()

    @invariant()
    def every_live_stream_is_in_one_replica_and_counted_there(self) -> None:
        if not hasattr(self, "pool"):
            return
        held = [uid for fake in self.world.fakes for uid in fake.streams]
        assert sorted(held) == sorted(self.live) == sorted(self.pool._streams)
        for member in self.pool._members.values():
            (shown,) = member.replica.replicas()
            assert member.streams == shown.streams
        assert all(self.world.home(uid).streams[uid].paused for uid in self.paused)
        assert self.pool.ready == any(fake.ready for fake in self.serving())

    def teardown(self) -> None:
        if hasattr(self, "pool"):
            self.loop.run_until_complete(self.end())
        self.loop.close()

    async def end(self) -> None:
        self.world.failures = 0
        self.world.gate.set()
        while not all(change.done() for change in self.changes):
            for fake in self.world.fakes:
                if fake.state is ReplicaState.RESTARTING:
                    fake.rise()
            await settled()
        for change in self.changes:
            error = change.exception()
            assert error is None or isinstance(error, RuntimeStartError)
        for fake in self.world.fakes:
            for uid in list(fake.streams):
                fake.token(uid, last=True)
        assert all(ear.over for ear in self.live.values())
        assert self.pool._streams == {}
        await self.pool.stop()
        assert {fake.state for fake in self.world.fakes} <= {ReplicaState.STOPPED}
        assert self.world.grounds == 0


TestPoolMachine = PoolMachine.TestCase


def test_a_waiting_stream_is_announced_where_it_will_go() -> None:
    prompt = list(range(100))

    async def scene(pool: Pool, world: World) -> None:
        known: list[int] = []
        pool.submit(request(9), Ear())  # so that the first is not the least loaded
        pool.warm(Warm(uid=1, prompt=prompt, seconds=30), known.append)
        (home,) = [one for one in world.fakes if one.warmed]
        home.warmed[1](5)
        assert known == [5]
        assert home is world.fakes[1]
        pool.submit(request(2), Ear())
        pool.submit(request(1, prompt, reuse=True), Ear())
        assert world.home(1) is home

    play(scene)


def test_streams_that_wait_are_spread_over_the_replicas() -> None:
    async def scene(pool: Pool, world: World) -> None:
        for uid in range(1, 5):
            pool.warm(Warm(uid=uid, prompt=[uid] * 40, seconds=30), lambda _: None)
        assert [len(fake.warmed) for fake in world.fakes] == [2, 2]

    play(scene)


def test_a_waiting_stream_that_does_not_come_or_goes_elsewhere_is_forgotten() -> None:
    async def scene(pool: Pool, world: World) -> None:
        for uid in (1, 2):
            pool.warm(Warm(uid=uid, prompt=[uid] * 40, seconds=30), lambda _: None)
        pool.forget(1)
        pool.forget(9)
        (home,) = [one for one in world.fakes if one.warmed]
        home.fall()
        pool.submit(request(2, [2] * 40, reuse=True), Ear())
        assert world.home(2) is not home
        assert home.warmed == {}

    play(scene)
