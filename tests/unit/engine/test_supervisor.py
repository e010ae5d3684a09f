import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
import pytest

from engine.core.stall import StallLimit
from engine.runtime.child import Blame, OnFrame
from engine.runtime.interface import ReplicaState, RuntimeStartError, StreamListener
from engine.runtime.messages import (
    Cancel,
    Evict,
    Fault,
    Faulted,
    Forget,
    Pause,
    Prefill,
    Ready,
    Resume,
    Step,
    Submit,
    Token,
    ToRuntime,
    Warm,
    Warmed,
)
from engine.runtime.restarts import Restarts
from engine.runtime.supervisor import Supervisor


class FakeChild:
    """A process that does only what the test tells it to."""

    def __init__(self, epoch: int, on_frame: OnFrame) -> None:
        self.pid = 1000 + epoch
        self.epoch = epoch
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.sent: list[ToRuntime] = []
        self.killed = False
        self.stopped = False
        self.fault_of = Blame.OUTSIDE
        self._on_frame = on_frame

    def send(self, message: ToRuntime) -> None:
        self.sent.append(message)

    def tail(self) -> str:
        return "cannot load"

    async def blame(self) -> Blame:
        assert not self.killed, "too late to ask"
        return self.fault_of

    async def kill(self) -> None:
        self.killed = True
        self.die("killed")

    async def stop(self) -> None:
        self.stopped = True
        self.die("stopped")

    def die(self, reason: str, blame: Blame = Blame.OUTSIDE) -> None:
        self.fault_of = blame
        if not self.ended.done():
            self.ended.set_result(reason)

    def become_ready(self) -> None:
        self._on_frame(Ready(epoch=self.epoch, pid=self.pid, blas="openblas", device="cpu"))

    def tokens(self, *tokens: Token, epoch: int | None = None) -> None:
        self._on_frame(Step(epoch=epoch or self.epoch, tokens=list(tokens)))

    def holds(self, **figures: float) -> None:
        self._on_frame(Step(epoch=self.epoch, **figures))

    def prefill(self, prefill: Prefill) -> None:
        self._on_frame(Step(epoch=self.epoch, prefills=[prefill]))

    def faulted(self, *uids: int, read_ahead: bool = False) -> None:
        self._on_frame(
            Faulted(
                epoch=self.epoch, uids=list(uids), reason="the step failed", read_ahead=read_ahead
            )
        )

    def warmed(self, uid: int, known: int) -> None:
        self._on_frame(
            Step(epoch=self.epoch, warmed=[Warmed(uid, known)], read_ahead=known, expired=1)
        )

    def submitted(self) -> list[int]:
        """The streams that it was given and not told to forget, as it knows them now."""
        here: list[int] = []
        for message in self.sent:
            if isinstance(message, Submit):
                here.append(message.uid)
            elif isinstance(message, Cancel):
                here.remove(message.uid)
        return here

    def fault(self, uid: int, reason: str) -> None:
        self._on_frame(Fault(epoch=self.epoch, uid=uid, reason=reason))


@dataclass
class Spawner:
    """Starts fakes; the first `healthy` become ready by themselves, later ones die at once."""

    healthy: int = 99
    children: list[FakeChild] = field(default_factory=list)
    born: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, epoch: int, on_frame: OnFrame) -> FakeChild:
        child = FakeChild(epoch, on_frame)
        self.children.append(child)
        self.born.set()
        if len(self.children) <= self.healthy:
            child.become_ready()
        else:
            child.die("the process ended")
        return child

    async def child(self, number: int) -> FakeChild:
        """The process of that number, once it exists and has been given what it shall do."""
        while len(self.children) < number:
            self.born.clear()
            await self.born.wait()
        await settled()
        return self.children[number - 1]


@dataclass
class Ear:
    """A listener that remembers."""

    tokens: list[int] = field(default_factory=list)
    prefills: list[Prefill] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def on_prefill(self, prefill: Prefill) -> None:
        self.prefills.append(prefill)

    def on_token(self, token: Token) -> None:
        self.tokens.append(token.token)

    def on_fault(self, reason: str) -> None:
        self.faults.append(reason)


class Deaf(Ear):
    def on_token(self, token: Token) -> None:
        raise ValueError(token.uid)


async def settled() -> None:
    """Let every task that can run do so; generous, since each turn costs microseconds."""
    for _ in range(50):
        await asyncio.sleep(0)


def request(uid: int = 1) -> Submit:
    return Submit(uid=uid, prompt=[5, 6], max_tokens=9, seed=uid)


def again(wire: int, uid: int) -> Submit:
    """A stream that was in this process before, under the id of its present stay."""
    return msgspec.structs.replace(request(uid), uid=wire)


Scene = Callable[[Supervisor, Spawner], Awaitable[None]]


def play(
    scene: Scene,
    *,
    healthy: int = 99,
    stall_seconds: float = 60,
    stall: StallLimit | None = None,
    bound: int = 3,
) -> None:
    """Run a scene with a supervisor that has started."""

    async def run() -> None:
        spawner = Spawner(healthy)
        supervisor = Supervisor(
            spawner,
            restarts=Restarts(bound=bound, first_delay_seconds=0),
            stall=stall or StallLimit(stall_seconds, stall_seconds, stall_seconds),
        )
        await supervisor.start()
        try:
            await scene(supervisor, spawner)
        finally:
            await supervisor.stop()

    asyncio.run(run())


def test_tokens_and_prefills_reach_the_listener_of_their_stream() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        child, one, two = await spawner.child(1), Ear(), Ear()
        supervisor.submit(request(1), one)
        supervisor.submit(request(2), two)
        assert child.sent == [request(1), request(2)]
        child.prefill(Prefill(1, 2, 2))
        child.tokens(Token(1, 0, 10), Token(2, 0, 20))
        child.tokens(Token(1, 1, 11, "stop"))
        assert (one.tokens, two.tokens) == ([10, 11], [20])
        assert one.prefills == [Prefill(1, 2, 2)]
        assert supervisor.replicas()[0].streams == 1

    play(scene)


def test_a_death_replays_live_streams_behind_their_last_token() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        first, live, finished = await spawner.child(1), Ear(), Ear()
        supervisor.submit(request(1), live)
        supervisor.submit(request(2), finished)
        first.tokens(Token(1, 0, 10), Token(2, 0, 20, "stop"))
        first.tokens(Token(1, 1, 11))
        first.die("the process ended")
        second = await spawner.child(2)
        assert first.killed
        assert [(m.uid, m.emitted) for m in second.sent if isinstance(m, Submit)] == [(1, [10, 11])]
        second.prefill(Prefill(1, 4, 4))
        second.tokens(Token(1, 2, 12, "length"))
        assert live.tokens == [10, 11, 12]
        assert live.prefills == []
        assert supervisor.replicas()[0].restarts == 1

    play(scene)


def test_frames_of_a_dead_process_are_ignored() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        first, ear = await spawner.child(1), Ear()
        supervisor.submit(request(), ear)
        first.die("the process ended")
        await spawner.child(2)
        first.tokens(Token(1, 0, 99))
        first.fault(1, "late")
        assert (ear.tokens, ear.faults) == ([], [])

    play(scene)


@pytest.mark.parametrize("position", [0, 2])
def test_a_token_out_of_order_ends_the_process_and_never_reaches_the_client(position: int) -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        first, ear = await spawner.child(1), Ear()
        supervisor.submit(request(), ear)
        first.tokens(Token(1, 0, 10))
        first.tokens(Token(1, position, 99))
        second = await spawner.child(2)
        second.tokens(Token(1, 1, 11, "stop"))
        assert first.killed
        assert ear.tokens == [10, 11]

    play(scene)


def test_a_stream_that_arrives_during_a_restart_is_served_by_the_new_process() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        first, ear = await spawner.child(1), Ear()
        first.die("the process ended")
        assert not supervisor.ready
        assert supervisor.accepting
        supervisor.submit(request(), ear)
        assert (await spawner.child(2)).sent == [request()]

    play(scene)


def test_a_cancelled_stream_hears_nothing_more_and_is_not_replayed() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        first, ear = await spawner.child(1), Ear()
        supervisor.submit(request(), ear)
        supervisor.cancel(1)
        supervisor.cancel(77)
        first.tokens(Token(1, 0, 10))
        assert first.sent == [request(), Cancel(uid=1)]
        first.die("the process ended")
        assert ((await spawner.child(2)).sent, ear.tokens) == ([], [])

    play(scene)


def test_a_fault_ends_its_stream_with_the_reason() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        child, ear = await spawner.child(1), Ear()
        supervisor.submit(request(), ear)
        child.fault(1, "the step failed: ValueError")
        assert ear.faults == ["the step failed: ValueError"]
        assert supervisor.replicas()[0].streams == 0

    play(scene)


def test_a_listener_that_raises_loses_its_own_stream_only() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        child, deaf, ear = await spawner.child(1), Deaf(), Ear()
        supervisor.submit(request(1), deaf)
        supervisor.submit(request(2), ear)
        child.tokens(Token(1, 0, 10), Token(2, 0, 20))
        assert ear.tokens == [20]
        assert supervisor.replicas()[0].streams == 1

    play(scene)


def test_silence_with_live_streams_counts_as_death() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        first, ear = await spawner.child(1), Ear()
        supervisor.submit(request(), ear)
        second = await spawner.child(2)
        second.tokens(Token(1, 0, 10, "stop"))
        assert first.killed
        assert ear.tokens == [10]

    play(scene, stall_seconds=0.02)


def test_a_stall_soon_after_the_start_has_the_limit_of_steps_that_were_seen() -> None:
    """The limit before the first step, an hour here, was in force when the wait began."""

    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        first, ear = await spawner.child(1), Ear()
        supervisor.submit(request(), ear)
        await asyncio.sleep(0)  # the wait begins
        first.tokens(Token(1, 0, 10))
        second = await spawner.child(2)
        second.tokens(Token(1, 1, 11, "stop"))
        assert first.killed
        assert ear.tokens == [10, 11]

    play(scene, stall=StallLimit(first=3600, floor=0.02))


def test_silence_without_streams_is_just_idle() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(spawner.child(2), timeout=0.1)
        assert len(spawner.children) == 1
        assert supervisor.ready

    play(scene, stall_seconds=0.01)


def test_past_the_bound_of_restarts_every_stream_is_told() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        ear, late = Ear(), Ear()
        supervisor.submit(request(1), ear)
        (await spawner.child(1)).die("the process ended")
        await spawner.child(4)
        supervisor.submit(request(2), late)
        await settled()
        assert len(spawner.children) == 4  # the first, and three restarts
        assert all(child.killed for child in spawner.children)
        assert not supervisor.ready
        assert not supervisor.accepting
        assert ear.faults == ["the runtime died too often"]
        assert late.faults == ["the runtime is failed"]

    play(scene, healthy=1, bound=3)


def test_a_process_that_ends_before_it_is_ready_is_a_start_error_with_its_last_words() -> None:
    async def run() -> None:
        spawner = Spawner(healthy=0)
        supervisor = Supervisor(spawner)
        with pytest.raises(
            RuntimeStartError, match="did not start: the process ended: cannot load"
        ):
            await supervisor.start()
        assert spawner.children[0].killed
        assert supervisor.replicas()[0].state is ReplicaState.FAILED

    asyncio.run(run())


def test_stopping_ends_the_process_and_tells_live_streams() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        child, ear, late = await spawner.child(1), Ear(), Ear()
        supervisor.submit(request(), ear)
        await supervisor.stop()
        await supervisor.stop()
        supervisor.submit(request(2), late)
        await settled()
        assert child.stopped
        assert len(spawner.children) == 1
        assert ear.faults == ["the runtime stopped"]
        assert late.faults == ["the runtime is stopped"]

    play(scene)


def test_stopping_during_a_restart_leaves_no_process() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        (await spawner.child(1)).die("the process ended")
        await asyncio.sleep(0)
        await supervisor.stop()
        assert all(child.ended.done() for child in spawner.children)

    play(scene)


def test_a_start_that_is_given_up_leaves_no_process() -> None:
    async def run() -> None:
        children: list[FakeChild] = []

        async def never_ready(epoch: int, on_frame: OnFrame) -> FakeChild:
            children.append(FakeChild(epoch, on_frame))
            return children[-1]

        supervisor = Supervisor(never_ready)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(supervisor.start(), timeout=0.02)
        assert children[0].killed
        assert not supervisor.ready

    asyncio.run(run())


def test_a_signal_from_outside_suspects_nobody() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        ear = Ear()
        supervisor.submit(request(1), ear)
        for number in range(1, 4):
            child = await spawner.child(number)
            assert child.submitted() == [1]
            child.die("the process ended", Blame.OUTSIDE)
        await spawner.child(4)
        assert ear.faults == []
        assert supervisor.replicas()[0].convicted == 0

    play(scene, bound=5)


def test_deaths_with_work_between_them_never_reach_the_bound() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        ear = Ear()
        supervisor.submit(Submit(uid=1, prompt=[5], max_tokens=99, seed=0), ear)
        for number in range(1, 21):
            child = await spawner.child(number)
            child.tokens(Token(1, number - 1, number))
            child.die("the process ended")
        await spawner.child(21)
        assert ear.tokens == list(range(1, 21))
        assert ear.faults == []

    play(scene, bound=2)


def test_a_request_that_kills_the_process_alone_fails_and_the_others_go_on() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        ears = {uid: Ear() for uid in (1, 2, 3)}
        for uid, ear in ears.items():
            supervisor.submit(request(uid), ear)
        first = await spawner.child(1)
        first.tokens(*(Token(uid, 0, 10 * uid) for uid in ears))
        first.die("the process ended", Blame.ITSELF)
        second = await spawner.child(2)
        assert second.submitted() == [1, 2]  # the first half
        second.die("the process ended", Blame.ITSELF)
        third = await spawner.child(3)
        assert third.submitted() == [1]
        third.tokens(Token(1, 1, 11))
        third.tokens(Token(1, 2, 12))  # beyond the fault: cleared, and held until it is over
        assert third.submitted() == [2]
        third.tokens(Token(1, 3, 99))  # was under way when it was withdrawn
        third.die("the process ended", Blame.ITSELF)
        fourth = await spawner.child(4)
        assert ears[2].faults == ["this request makes the model fail: the process ended, by itself"]
        assert fourth.submitted() == [3]
        fourth.tokens(Token(3, 1, 31), Token(3, 2, 32))
        assert fourth.submitted() == [3, 1]
        assert [m.emitted for m in fourth.sent if isinstance(m, Submit)] == [[30], [10, 11, 12]]
        assert (ears[1].tokens, ears[1].faults) == ([10, 11, 12], [])
        assert (ears[3].tokens, ears[3].faults) == ([30, 31, 32], [])
        replica = supervisor.replicas()[0]
        assert (replica.convicted, replica.restarts) == (1, 1)

    play(scene, bound=1)


def test_a_step_that_raises_is_investigated_in_the_same_process() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        child, good, bad = await spawner.child(1), Ear(), Ear()
        supervisor.submit(request(1), good)
        supervisor.submit(request(2), bad)
        child.faulted(1, 2)
        assert child.sent[2:] == [again(-1, 1)]
        child.tokens(Token(1, 0, 99))  # of its first stay
        child.tokens(Token(-1, 0, 10))
        child.tokens(Token(-1, 1, 11))
        assert child.sent[3:] == [Cancel(uid=-1), again(-2, 2)]
        child.faulted(-2)
        assert bad.faults == ["this request makes the model fail: the step failed"]
        child.tokens(Token(-3, 2, 12, "stop"))
        assert good.tokens == [10, 11, 12]
        assert len(spawner.children) == 1

    play(scene)


def announced(uid: int) -> Warm:
    return Warm(uid=uid, prompt=[1, 2], seconds=30)


def test_a_waiting_stream_is_announced_and_heard_of() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        child, known = await spawner.child(1), list[int]()
        supervisor.warm(announced(1), known.append)
        supervisor.warm(announced(2), known.append)
        child.warmed(1, 40)
        supervisor.forget(2)
        child.warmed(2, 50)
        assert known == [40]
        assert child.sent == [announced(1), announced(2), Forget(uid=2)]
        replica = supervisor.replicas()[0]
        assert (replica.read_ahead, replica.expired) == (90, 2)

    play(scene)


def test_drafts_are_counted_and_what_holds_now_is_shown() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        child = await spawner.child(1)
        child.holds(drafted=16, accepted=9, speculating=True)
        child.holds(drafted=8, accepted=0, speculating=False)
        replica = supervisor.replicas()[0]
        assert (replica.drafted, replica.accepted, replica.speculating) == (24, 9, False)

    play(scene)


def test_a_step_that_also_read_ahead_convicts_nobody_until_it_fails_without() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        child, ear = await spawner.child(1), Ear()
        supervisor.submit(request(1), ear)
        supervisor.warm(announced(2), lambda _: None)
        child.faulted(1, read_ahead=True)
        assert child.sent[2:] == [again(-1, 1)]
        supervisor.warm(announced(3), lambda _: None)  # not while it is quiet
        assert len(child.sent) == 3
        assert ear.faults == []
        child.faulted(-1)
        child.faulted(-2)
        assert len(ear.faults) == 1

    play(scene)


def test_a_process_that_dies_with_announced_streams_convicts_nobody() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        child, ear = await spawner.child(1), Ear()
        supervisor.submit(request(1), ear)
        supervisor.warm(announced(2), lambda _: None)
        child.die("gone", Blame.ITSELF)
        second = await spawner.child(2)
        assert second.submitted() == [1]
        assert ear.faults == []

    play(scene)


def test_newcomers_wait_while_a_fault_is_investigated() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        child, ear, late = await spawner.child(1), Ear(), Ear()
        supervisor.submit(request(1), ear)
        child.faulted(1)
        supervisor.submit(request(2), late)
        assert child.sent[1:] == [again(-1, 1)]
        child.faulted(-1)
        assert len(ear.faults) == 1
        assert child.sent[2:] == [request(2)]

    play(scene)


def test_a_start_that_fails_during_an_investigation_counts() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        ear = Ear()
        supervisor.submit(request(1), ear)
        (await spawner.child(1)).die("the process ended", Blame.ITSELF)
        await spawner.child(3)
        await settled()
        assert supervisor.replicas()[0].state is ReplicaState.FAILED
        assert ear.faults == ["the runtime died too often"]

    play(scene, healthy=1, bound=2)


def test_a_paused_stream_stands_still_and_goes_on_where_it_was() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        first, ear = await spawner.child(1), Ear()
        supervisor.submit(request(1), ear)
        supervisor.pause(1)
        supervisor.pause(1)
        first.tokens(Token(1, 0, 10))  # was under way
        supervisor.resume(1)
        supervisor.resume(1)
        assert first.sent[1:] == [Pause(uid=1), Resume(uid=1)]
        supervisor.pause(1)
        first.die("the process ended")
        second = await spawner.child(2)
        assert second.sent == []
        supervisor.resume(1)
        assert [m.emitted for m in second.sent if isinstance(m, Submit)] == [[10]]
        assert ear.tokens == [10]

    play(scene)


def test_a_paused_stream_is_no_silence() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        supervisor.submit(request(1), Ear())
        supervisor.pause(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(spawner.child(2), timeout=0.3)
        assert supervisor.ready

    play(scene, stall_seconds=0.05)


def test_a_renewal_is_planned_and_waits_for_the_new_process() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        first, ear = await spawner.child(1), Ear()
        supervisor.submit(request(1), ear)
        first.tokens(Token(1, 0, 10))
        await supervisor.renew()
        second = await spawner.child(2)
        assert supervisor.ready
        assert first.killed
        assert [m.emitted for m in second.sent if isinstance(m, Submit)] == [[10]]
        assert supervisor.replicas()[0].restarts == 0

    play(scene, bound=0)


def test_the_processor_time_of_a_process_outlives_it() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        first = await spawner.child(1)
        first.holds(cpu_seconds=1.5)
        first.holds(cpu_seconds=0.5)
        await supervisor.renew()
        (await spawner.child(2)).holds(cpu_seconds=1.0)
        assert supervisor.replicas()[0].cpu_seconds == 3.0

    play(scene)


def test_figures_of_a_process_end_with_it() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        (await spawner.child(1)).holds(kv_bytes=7, memory_bytes=9)
        assert supervisor.replicas()[0].memory_bytes == 9
        await supervisor.renew()
        replica = supervisor.replicas()[0]
        assert (replica.kv_bytes, replica.memory_bytes) == (0, 0)

    play(scene)


def test_streams_that_are_handed_over_go_on_behind_their_last_token() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        child, ear = await spawner.child(1), Ear()
        supervisor.submit(request(1), ear)
        child.tokens(Token(1, 0, 10))
        ((moved, listener),) = supervisor.hand_over()
        assert (moved.emitted, listener) == ([10], ear)
        assert child.submitted() == []
        assert supervisor.replicas()[0].streams == 0

    play(scene)


def test_whoever_is_told_of_the_failure_may_save_the_streams() -> None:
    async def run() -> None:
        spawner, ear, saved = Spawner(healthy=1), Ear(), list[tuple[Submit, StreamListener]]()
        supervisor = Supervisor(
            spawner,
            on_failed=lambda: saved.extend(supervisor.hand_over()),
            restarts=Restarts(bound=0),
        )
        await supervisor.start()
        supervisor.submit(request(1), ear)
        spawner.children[0].die("the process ended")
        await settled()
        assert [(moved.uid, listener) for moved, listener in saved] == [(1, ear)]
        assert ear.faults == []
        await supervisor.stop()

    asyncio.run(run())


def test_memory_is_given_back_on_request() -> None:
    async def scene(supervisor: Supervisor, spawner: Spawner) -> None:
        supervisor.evict(1000)
        assert (await spawner.child(1)).sent == [Evict(keep_bytes=1000)]

    play(scene)
