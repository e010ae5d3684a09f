"""Several replicas for real: one is killed, they come and go under load, no stream notices."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Literal

import psutil
import pytest
from ears import PATIENCE_SECONDS, Ear, outputs, requests, submit_all
from served import alive, until

from engine.config import RuntimeConfig
from engine.runtime.backends import make_pool
from engine.runtime.interface import ReplicaState, RuntimeStartError
from engine.runtime.models import ModelFiles
from engine.runtime.pool import Pool

BACKENDS: tuple[Literal["local", "tls"], ...] = ("local", "tls")
STREAMS = 20

Scene = Callable[[Pool], Awaitable[None]]


def play(pool: Pool, scene: Scene) -> None:
    """Run a scene with a started pool; afterwards nothing of it is left."""

    async def run() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await pool.start()
            try:
                await scene(pool)
                assert sum(replica.streams for replica in pool.replicas()) == 0
            finally:
                await pool.stop()

    asyncio.run(run())
    assert psutil.Process().children() == []


class Load:
    """The same streams each time; only their ids differ."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._uids = count(1, STREAMS)

    def begin(self) -> list[Ear]:
        return submit_all(self._pool, requests(STREAMS, next(self._uids), max_tokens=64))


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_stream_notices_that_a_replica_is_killed(
    tiny: ModelFiles, backend: Literal["local", "tls"]
) -> None:
    async def scene(pool: Pool) -> None:
        load = Load(pool)
        undisturbed = await outputs(load.begin())
        ears = load.begin()
        assert [replica.streams for replica in pool.replicas()] == [STREAMS / 2] * 2
        for ear in ears:
            await ear.heard.wait()
        victim = pool.replicas()[0].pid
        assert victim is not None
        assert pool.replicas()[0].streams > 0
        os.kill(victim, signal.SIGKILL)
        assert await outputs(ears) == undisturbed
        assert pool.ready
        assert victim not in [replica.pid for replica in pool.replicas()]
        assert sum(replica.restarts for replica in pool.replicas()) == 1

    play(make_pool(tiny, RuntimeConfig(replicas=2, backend=backend), 1 << 24), scene)


def test_replicas_come_and_go_under_load_without_an_error(tiny: ModelFiles) -> None:
    async def scene(pool: Pool) -> None:
        load = Load(pool)
        undisturbed = await outputs(load.begin())
        rounds = 0
        done = asyncio.Event()

        async def repeat() -> None:
            nonlocal rounds
            while not done.is_set():
                assert await outputs(load.begin()) == undisturbed
                rounds += 1

        loading = asyncio.create_task(repeat())
        await pool.scale(3)
        assert [replica.state for replica in pool.replicas()] == [ReplicaState.READY] * 3
        grown = load.begin()
        assert {member.streams > 0 for member in pool.replicas()} == {True}
        await asyncio.gather(*(ear.heard.wait() for ear in grown))
        await pool.scale(1)
        assert len(pool.replicas()) == len(psutil.Process().children()) == 1
        assert await outputs(grown) == undisturbed
        done.set()
        await loading
        assert rounds > 0

    play(make_pool(tiny, RuntimeConfig(), 1 << 24), scene)


def test_a_renewed_pool_has_new_processes_and_its_streams_go_on(tiny: ModelFiles) -> None:
    async def scene(pool: Pool) -> None:
        load = Load(pool)
        undisturbed = await outputs(load.begin())
        before = {replica.pid for replica in pool.replicas()}
        ears = load.begin()
        await asyncio.gather(*(ear.heard.wait() for ear in ears))
        renewing = asyncio.create_task(pool.renew())
        while not renewing.done():
            assert pool.ready
            await asyncio.sleep(0)
        await renewing
        assert await outputs(ears) == undisturbed
        assert before.isdisjoint({replica.pid for replica in pool.replicas()})

    play(make_pool(tiny, RuntimeConfig(replicas=2), 1 << 24), scene)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_replica_that_cannot_start_is_one_line_and_leaves_nothing(
    tiny: ModelFiles, backend: Literal["local", "tls"]
) -> None:
    gone = ModelFiles(name="gone", path=tiny.path / "gone", sha256="", builtin=False)

    async def scene() -> None:
        pool = make_pool(gone, RuntimeConfig(replicas=2, backend=backend), 0)
        with pytest.raises(RuntimeStartError) as caught:
            await pool.start()
        assert "\n" not in str(caught.value)
        assert pool.replicas() == []
        await pool.stop()

    asyncio.run(scene())
    assert psutil.Process().children() == []


FRONT_END = """
    import asyncio, sys
    from engine.config import RuntimeConfig
    from engine.runtime.backends import make_pool
    from engine.runtime.models import resolve_model

    async def main():
        pool = make_pool(resolve_model("tiny"), RuntimeConfig(replicas=2, backend="tls"), 0)
        await pool.start()
        print(*(replica.pid for replica in pool.replicas()), flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
"""


def test_over_tls_no_process_outlives_a_front_end_that_is_killed() -> None:
    command = [sys.executable, "-P", "-c", textwrap.dedent(FRONT_END)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as front_end:
        assert front_end.stdout is not None
        children = [psutil.Process(int(pid)) for pid in front_end.stdout.readline().split()]
        front_end.kill()
    assert len(children) == 2
    until(lambda: not any(map(alive, children)))
