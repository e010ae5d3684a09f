"""Streams outlive their process, and one request's fault is nobody else's."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from ears import FULL, PATIENCE_SECONDS, Ear, Play, outputs, play_scene, requests, submit_all, until

from engine.core.stall import StallLimit
from engine.runtime.interface import ReplicaState
from engine.runtime.messages import Sampling, Submit
from engine.runtime.models import resolve_model
from engine.runtime.supervisor import Supervisor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "engines"))

from poisoned import CRASHES, EXITS, HANGS, RAISES  # it is no package

GREEDY = Sampling()
SEEDED = Sampling(temperature=0.9, top_p=0.95, frequency_penalty=0.3)

#: A step of `tiny` takes milliseconds; two seconds of silence are a stall even on this machine.
SOON = StallLimit(first=10, floor=2)


def victim(supervisor: Supervisor) -> int:
    pid = supervisor.replicas()[0].pid
    assert pid is not None
    return pid


@pytest.mark.parametrize(
    ("number", "sampling"),
    [
        pytest.param(signal.SIGKILL, GREEDY, id="SIGKILL, greedy"),
        pytest.param(signal.SIGSTOP, SEEDED, id="SIGSTOP, seeded"),
    ],
)
def test_twenty_streams_survive_a_signal_at_token_five_unchanged(
    play: Play, sampling: Sampling, number: signal.Signals
) -> None:
    async def scene(supervisor: Supervisor) -> None:
        undisturbed = await outputs(submit_all(supervisor, requests(20, 1, sampling=sampling)))
        ears = submit_all(supervisor, requests(20, 101, sampling=sampling))
        for ear in ears:
            await ear.has(5)
        assert not any(ear.over.is_set() for ear in ears)
        os.kill(victim(supervisor), number)
        assert await outputs(ears) == undisturbed
        replica = supervisor.replicas()[0]
        assert (replica.restarts, replica.convicted, replica.replayed) == (1, 0, 20)

    play(scene, stall=SOON)


def test_a_real_models_streams_survive_a_kill_at_token_five_unchanged() -> None:
    def asked(first_uid: int) -> list[Submit]:
        greedy = requests(6, first_uid, sampling=GREEDY, max_tokens=12)
        return greedy + requests(6, first_uid + 50, sampling=SEEDED, max_tokens=12)

    async def scene(supervisor: Supervisor) -> None:
        undisturbed = await outputs(submit_all(supervisor, asked(1)))
        ears = submit_all(supervisor, asked(101))
        for ear in ears:
            await ear.has(5)
        os.kill(victim(supervisor), signal.SIGKILL)
        assert await outputs(ears) == undisturbed
        assert supervisor.replicas()[0].restarts == 1

    asyncio.run(play_scene(resolve_model("smollm2-135m"), scene))


def test_kill_after_kill_costs_no_stream_a_token(play: Play) -> None:
    """20 streams through 100 kills (1,000 with --full: in CI 15), each after some new token."""
    kills = 1_000 if FULL else 15

    async def scene(supervisor: Supervisor) -> None:
        asked = {"max_tokens": 6 * kills}
        ears = submit_all(supervisor, requests(20, 1, **asked))
        for number in range(kills):
            live = next(ear for ear in ears if not ear.over.is_set())
            await live.has(len(live.tokens) + 1 + number % 4)
            os.kill(victim(supervisor), signal.SIGKILL)
            await until(lambda: not supervisor.ready)
        disturbed = await outputs(ears)
        assert disturbed == await outputs(submit_all(supervisor, requests(20, 101, **asked)))
        assert supervisor.replicas()[0].restarts == kills

    play(scene, patience=PATIENCE_SECONDS + 10 * kills)


@pytest.mark.parametrize("seed", [RAISES, CRASHES, EXITS], ids=["raises", "crashes", "exits"])
def test_a_poisoned_request_fails_alone_and_changes_nobody_elses_output(
    play: Play, seed: int
) -> None:
    async def scene(supervisor: Supervisor) -> None:
        undisturbed = await outputs(submit_all(supervisor, requests(9, 1)))
        ears = submit_all(supervisor, requests(5, 101))
        poison = Ear()
        supervisor.submit(Submit(uid=666, prompt=[7, 8, 9], max_tokens=24, seed=seed), poison)
        ears += submit_all(supervisor, requests(9, 201)[5:])
        assert await outputs(ears) == undisturbed
        await poison.over.wait()
        (reason,) = poison.faults
        assert "makes the model fail" in reason
        assert len(poison.tokens) == 3
        replica = supervisor.replicas()[0]
        assert replica.convicted == 1
        assert replica.restarts == (0 if seed == RAISES else 1)

    play(scene, poisoned=True)


def test_a_request_that_hangs_the_process_fails_alone(play: Play) -> None:
    async def scene(supervisor: Supervisor) -> None:
        poison, (innocent,) = Ear(), submit_all(supervisor, requests(1, 1))
        supervisor.submit(Submit(uid=666, prompt=[7], max_tokens=24, seed=HANGS), poison)
        await outputs([innocent])
        await poison.over.wait()
        assert "no progress" in poison.faults[0]

    play(scene, poisoned=True, stall=SOON)


def test_a_stream_that_is_killed_from_outside_again_and_again_is_never_convicted(
    play: Play,
) -> None:
    async def scene(supervisor: Supervisor) -> None:
        (ear,) = submit_all(supervisor, requests(1, 1))
        for _ in range(3):
            await ear.has(len(ear.tokens) + 1)
            os.kill(victim(supervisor), signal.SIGKILL)
            await until(lambda: not supervisor.ready)
        await outputs([ear])
        assert supervisor.replicas()[0].convicted == 0

    play(scene)


def test_past_the_bound_of_restarts_nothing_hangs(play: Play) -> None:
    async def scene(supervisor: Supervisor) -> None:
        while supervisor.replicas()[0].state is not ReplicaState.FAILED:
            if supervisor.ready:
                os.kill(victim(supervisor), signal.SIGKILL)
            await asyncio.sleep(0.01)  # idle deaths: nothing else tells of them
        assert not supervisor.ready
        (late,) = submit_all(supervisor, requests(1, 1))
        await late.over.wait()
        assert late.faults == ["the runtime is failed"]

    play(scene)
